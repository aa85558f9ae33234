"""Every family of models: pruning removes what a stock model with those keys forbidden ignores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from itertools import product

import contract
import pytest
import torch
from flash_stand_in import flash_path
from forbidden_keys import (
    NEW,
    forbidding,
    generated,
    holds_its_promise,
    kept_by,
    left_padded_rows,
    pruned,
    stepped,
    visual_places,
)
from pretended_device import Pretended, PretendedDevice, pretended
from tiny_families import FAMILIES, alone
from tower_methods import CROPS, FRAMEWISE, IN_TOWER, OWN_IMAGES
from video_prompts import BOTH, OWN_VIDEOS

from methods import Budget, PruningError, attach, get_method, methods

DROPPING = ("fastv", "v2drop", "random", "uniform", "feather")
"""Methods that leave what they keep as and where it is."""


NUMBERING = ("sparsevlm", "pyramiddrop", "divprune", "cdpruner")
"""Methods that number what they keep anew."""
VIDEOS = ("onevision_videos", "llava_next_video", "video_llava")
"""On one axis; with images, or without."""
OF_FRAMES = {"vidcom2", "dycoke", "framefusion", "fastvid", "frames"}
"""Methods that cut frames, which are held to their promises elsewhere."""
LARGE_IMAGES = ("onevision_with_video", "llava_next_video")
"""Families with an image beside a video, which stays whole there."""
ON_VIDEOS = {"visionzip", *FRAMEWISE}
"""Methods that cut each frame by itself."""
BY_IMAGE = ("pooling", "gprune", "cdpruner")
"""Methods that are not defined for videos."""
ON_CROPS = ("llava_next", "onevision", "onevision_crops")
NOT_DEFINED = {
    "onevision": ("vscan",),
    "onevision_with_video": (*BY_IMAGE, *CROPS),
    "onevision_videos": (*BY_IMAGE, *(set(CROPS) - ON_VIDEOS - {"vitcop"})),
    **dict.fromkeys(VIDEOS[1:], (*BY_IMAGE, *(set(CROPS) - ON_VIDEOS))),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), NUMBERING),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_video"), (*NUMBERING, "pooling")),
    **dict.fromkeys(("qwen2_5_vl_video", "qwen2_5_vl_both"), (*NUMBERING, *BY_IMAGE, "hiprune")),
    "qwen2_vl_video": (*NUMBERING, *BY_IMAGE),
}


@pytest.fixture(params=FAMILIES)
def named_family(request):
    """A family's name, a model of it, and its batch of two."""
    return request.param, *FAMILIES[request.param]()


@pytest.fixture
def family(named_family):
    """A model and its batch of two."""
    return named_family[1:]


@pytest.mark.parametrize("name", DROPPING)
def test_removed_tokens_are_those_that_the_stock_model_may_not_see(family, name):
    is_the_stock_model_without_what_is_removed(*family, name)


@pytest.mark.parametrize("family_name", ON_CROPS)
def test_gprune_drops_patches_and_no_newlines(family_name):
    model, inputs = FAMILIES[family_name]()
    is_the_stock_model_without_what_is_removed(model, inputs, "gprune")
    _, trace = pruned(generated, get_method("gprune"), model, inputs)
    (prefill,) = trace.prefills
    for selection in prefill.selections:
        for row, kept in zip(selection.rows, selection.cut.anchors, strict=True):
            grid = [place for s in prefill.sizes[row].segments for place in s.grid()]
            newlines = {i for i, place in enumerate(grid) if place == (-1, -1, -1, -1)}
            assert newlines < set(kept.tolist())


def is_the_stock_model_without_what_is_removed(model, inputs, name: str) -> None:
    (logits, tokens), trace = pruned(generated, get_method(name), model, inputs)
    holds_its_promise(trace)
    kept = kept_by(trace.prefills[-1], inputs)
    assert kept
    with forbidding(model, kept):
        expected, same = generated(model, inputs)
        step_by_step = stepped(model, inputs, tokens)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - generated(model, inputs)[0]).abs().max() > 0.05
    again, trace = pruned(stepped, get_method(name), model, inputs, tokens)
    holds_its_promise(trace)
    torch.testing.assert_close(again, step_by_step, atol=1e-4, rtol=0)


def test_keeping_everything_changes_no_bit(family):
    model, inputs = family
    method, everything = get_method("fastv"), Budget(fraction=1)
    logits, tokens = generated(model, inputs)
    (kept, _), trace = pruned(generated, method, model, inputs, budget=everything)
    assert torch.equal(logits, kept)
    assert trace.prefills[-1].entering[:, 0].tolist() == visual_places(inputs).sum(1).tolist()
    loop, _ = pruned(stepped, method, model, inputs, tokens, budget=everything)
    assert torch.equal(stepped(model, inputs, tokens), loop)


def test_every_method_keeps_its_promise_or_says_that_it_is_not_defined(named_family):
    name, model, inputs = named_family
    for method in map(get_method, sorted(set(methods()) - {*OF_FRAMES, "downsample"})):
        in_tower = method.tower_reads or method.inside_tower
        if in_tower and method.name not in IN_TOWER.get(name, ()):
            sentence = f"^{method.label} is not defined here for {type(model).__name__}: "
        elif method.name in ON_VIDEOS and name in LARGE_IMAGES:
            sentence = f"{method.label} cannot meet"
        elif method.name in NOT_DEFINED.get(name, ()):
            sentence = "is not defined "
        else:
            _, trace = pruned(generated, method, model, inputs, budget=Budget(fraction=0.5))
            holds_its_promise(trace)
            continue
        with pytest.raises(PruningError, match=sentence):
            pruned(generated, method, model, inputs, budget=Budget(fraction=0.5))


@contextmanager
def eager(model) -> Iterator[None]:
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("kernel", [eager, flash_path])
def test_kernels_agree(family, kernel):
    """FlashAttention's path would take positions with gaps, if it saw any, for several prompts."""
    model, inputs = family
    for method in (get_method("random"), get_method("fastv")):
        (logits, tokens), trace = pruned(generated, method, model, inputs)
        with kernel(model):
            (others, same), again = pruned(generated, method, model, inputs)
        assert torch.equal(tokens, same)
        torch.testing.assert_close(logits, others, atol=1e-4, rtol=0)
        contract.assert_same_selections(trace, again)


ON_ONE_AXIS = (
    *("llava_next", "onevision", "onevision_crops", "onevision_with_video", *VIDEOS),
    *("internvl", "internvl_frames", "smolvlm"),
)


@pytest.mark.parametrize(
    ("name", "method"),
    [*product(ON_ONE_AXIS, ["divprune"]), *product(ON_CROPS, ["cdpruner"])],
)
def test_tokens_that_are_numbered_anew_are_a_shorter_prompt(name, method):
    """What cuts before layer 0 is the stock model on what it keeps of the embeddings."""
    model, inputs = FAMILIES[name]()
    entering = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: entering.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    (logits, tokens), trace = pruned(generated, get_method(method), model, inputs)
    generated(model, inputs)
    handle.remove()
    (kept,) = kept_by(trace.prefills[-1], inputs).values()
    rows = [hidden[own] for hidden, own in zip(entering[-NEW], kept, strict=True)]
    expected, same = generated(model, left_padded_rows(rows))
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


ALONE = {**OWN_IMAGES, **OWN_VIDEOS, **BOTH}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *product(
            ("llava_next", "internvl"), ["pyramiddrop", "sparsevlm", "dart", "v2drop", "fitprune"]
        ),
        *product(OWN_VIDEOS, ["pyramiddrop", "sparsevlm", "dart", "fitprune"]),
        *product(BOTH, ["fastv", "dart", "v2drop"]),
        *product(["llava_next"], ["visionzip", "fastervlm"]),
    ],
)
def test_a_batch_gives_what_its_prompts_give_alone(name, method):
    model, inputs = FAMILIES[name]()
    share = Budget(fraction=0.5)
    (together, tokens), trace = pruned(generated, get_method(method), model, inputs, budget=share)
    for row, its in ALONE[name].items():
        own = alone(inputs, row, its)
        (logits, same), single = pruned(generated, get_method(method), model, own, budget=share)
        assert torch.equal(tokens[row : row + 1], same)
        torch.testing.assert_close(together[row : row + 1], logits, atol=1e-4, rtol=0)
        assert torch.equal(trace.prefills[-1].entering[row], single.prefills[-1].entering[0])


@pytest.mark.parametrize("name", ["internvl", "llava_next", "qwen2_5_vl", "qwen3_vl_video"])
def test_beams_share_the_images_of_their_prompt(name):
    model, inputs = FAMILIES[name]()
    if name in OWN_IMAGES:  # releases before 5.18 repeat a batch's images one by one
        inputs = alone(inputs, 1, OWN_IMAGES[name][1])

    def searched(model, inputs):
        return model.generate(**inputs, max_new_tokens=3, num_beams=2, num_return_sequences=2)

    found, trace = pruned(searched, get_method("fastv"), model, inputs)
    entering = trace.prefills[-1].entering
    assert len(found) == len(entering) == 2 * len(inputs["input_ids"])
    assert torch.equal(entering, trace.prefills[-1].planned)
    assert torch.equal(entering[::2], entering[1::2])


BY_DATA = {"framefusion": Counter({"methods/stages.py run_decoder_stage": 7})}
"""Once a layer but the last, where data decide how many rows go on."""
OWN_WAITS = Counter(
    {
        "methods/prompt.py read_prompt": 1,
        "methods/trace.py check_numbers": 1,
        "methods/adapters/_anyres.py heights_and_widths": 1,
        "methods/adapters/llava_onevision.py segments": 1,  # how many images a prompt has
        "methods/encoder_calls.py dealt": 1,  # where a prompt has both kinds
        "methods/adapters/idefics3.py check_tower_call": 1,
    }
)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *product(["llava_next", "onevision", "internvl", "smolvlm", *VIDEOS], ["random", "fastv"]),
        *product(["llava_next", "onevision_crops", "internvl"], [*CROPS, "gprune", "cdpruner"]),
        *product(["onevision_videos"], [*sorted(OF_FRAMES | ON_VIDEOS), "vitcop"]),
        ("smolvlm", "hiprune"),
    ],
)
def test_rules_of_a_device_are_kept_and_nothing_else_is_waited_for(name, method):
    model, inputs = FAMILIES[name]()
    moved = pretended(deepcopy(model))

    def waits(*contexts) -> Counter[str]:
        with ExitStack() as stack:
            device = stack.enter_context(PretendedDevice())
            for context in contexts:
                stack.enter_context(context)
            given = {key: Pretended(value) for key, value in inputs.items()}
            moved.generate(**given, max_new_tokens=3, do_sample=False)
        # the encoder's own are told of the function that looks at it
        own = "methods/encoder_calls.py get_features"
        return Counter(wait.place for wait in device.waits if wait.place != own)

    stock = waits()
    found = waits(attach(moved, get_method(method), Budget(fraction=0.6)))
    assert found - stock <= OWN_WAITS + BY_DATA.get(method, Counter())
