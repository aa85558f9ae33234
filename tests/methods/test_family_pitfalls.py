"""What would be silently wrong in a family of models: each is planted, and seen to be wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from forbidden_keys import forbidding, generated, kept_by, pruned, stepped
from tiny_families import FAMILIES, Inputs, alone
from torch import Tensor

from methods import Budget, PruningError, attach, cutting, get_method
from methods.adapters import _decoder, adapter_for
from methods.adapters.qwen3_vl import Qwen3VLAdapter
from methods.caches import CACHE_ARGUMENT
from methods.encoder_calls import EncoderCalls
from methods.generation import Generation
from methods.recording import observing
from methods.sequence import Run, after_cut
from methods.sizes import Segment

BEFORE_LAYER_0, LATER = get_method("random"), get_method("v2drop")


def apart(name: str, run=generated, inputs: Inputs | None = None) -> float:
    """Largest difference of logits to those of the stock model with the removed keys forbidden."""
    model, batch = FAMILIES[name]()
    inputs = batch if inputs is None else inputs
    given = () if run is generated else (generated(model, inputs)[1],)
    found, trace = pruned(run, BEFORE_LAYER_0, model, inputs, *given)
    with forbidding(model, kept_by(trace.prefills[0], inputs)):
        expected = run(model, inputs, *given)
    if run is generated:
        found, expected = found[0], expected[0]
    return (found - expected).abs().max().item()


# --- where a new token stands -------------------------------------------------------------------


def after_the_largest(generation: Generation) -> Tensor:
    """After the largest position of the prompt, be it of time, height or width."""
    axes = generation.runs[0].axes
    assert axes is not None
    return axes.amax((0, 2)) + generation.steps


def after_what_was_kept(generation: Generation) -> Tensor:
    return generation.runs[0].valid.sum(1) - 1


def after_the_whole_prompt(generation: Generation) -> Tensor:
    return torch.tensor(generation.prompt_lengths) + generation.steps - 1


def where_the_cache_ends(generation: Generation) -> None:
    """Leaves it to the model, which looks at the length of layer 0's cache."""


@pytest.mark.parametrize(
    ("rule", "name", "run"),
    [
        (after_the_largest, "qwen2_5_vl_video", generated),
        (after_what_was_kept, "qwen2_5_vl", generated),
        (after_the_whole_prompt, "qwen2_5_vl", generated),
        (where_the_cache_ends, "llava_next", stepped),
    ],
)
def test_where_a_new_token_stands(monkeypatch, rule, name, run):
    right = apart(name, run)
    enter = Generation.enter_step

    def enter_step(self, *given):
        positions = rule(self)
        on_axes = None if positions is None else positions[None, :, None].expand(3, -1, -1)
        return enter(self, *given) | {"position_ids": on_axes}

    monkeypatch.setattr(Generation, "enter_step", enter_step)
    assert right < 1e-4
    assert apart(name, run) > 0.05


def bare_steps(model, inputs: Inputs, tokens: Tensor) -> Tensor:
    """Logits of plain forwards that give the model neither mask nor positions."""
    prompt = {name: value for name, value in inputs.items() if name != "attention_mask"}
    with torch.no_grad():
        out = model(**prompt, use_cache=True)
        logits = [out.logits[:, -1]]
        for token in tokens.split(1, 1):
            cache = {CACHE_ARGUMENT: getattr(out, CACHE_ARGUMENT), "use_cache": True}
            out = model(input_ids=token, **cache)
            logits.append(out.logits[:, -1])
    return torch.stack(logits, 1)


def second_prompt(name: str) -> Inputs:
    """Alone, without padding and with its only image."""
    images = {
        "qwen2_5_vl": {"pixel_values": slice(92, None), "image_grid_thw": slice(2, None)},
        "llava_next": {"pixel_values": slice(2, None), "image_sizes": slice(2, None)},
    }
    return alone(FAMILIES[name]()[1], 1, images[name])


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_next"])
def test_positions_that_nobody_gives(monkeypatch, name):
    inputs = second_prompt(name)
    assert apart(name, bare_steps, inputs) < 1e-4
    if name == "qwen2_5_vl":  # its body counts the rows of the cache
        enter = Generation.enter_step
        monkeypatch.setattr(
            Generation, "enter_step", lambda self, kwargs, placed: enter(self, kwargs, True)
        )
        assert apart(name, bare_steps, inputs) > 0.05


def without_a_cache(model, inputs: Inputs, tokens: Tensor) -> Tensor:
    prompt = {name: value for name, value in inputs.items() if name != "attention_mask"}
    with torch.no_grad():
        return model(**prompt, use_cache=False).logits[:, -1:]


def test_positions_with_gaps_are_not_taken_for_packed_prompts(monkeypatch):
    inputs = second_prompt("qwen2_5_vl")
    assert apart("qwen2_5_vl", without_a_cache, inputs) < 1e-4
    four = property(lambda run: torch.cat([run.positions[None], run.axes]))
    monkeypatch.setattr(Run, "position_ids", four)
    assert apart("qwen2_5_vl", without_a_cache, inputs) > 0.05


@pytest.mark.parametrize("run", [generated, lambda model, inputs: model(**inputs)])
def test_images_that_stand_as_text_does_are_refused(run):
    model, inputs = FAMILIES["qwen2_5_vl"]()
    without = {name: value for name, value in inputs.items() if name != "mm_token_type_ids"}
    model.model.rope_deltas = None
    with pytest.raises(PruningError, match="have the positions of text; give mm_token_type_ids"):
        pruned(run, LATER, model, without)


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        (
            "pyramiddrop",
            {},
            "PyramidDrop is not .* Qwen2_5_VL.* numbers what it keeps anew",
        ),
        ("sparsevlm", {}, "SparseVLM is not defined here for .* numbers what it keeps anew"),
        ("sparsevlm", {"variant": "plus"}, "SparseVLM .* reads the angle between two of them"),
        ("dart", {"schedule": "published", "max_tokens": 4}, "DART .* reads the angle between two"),
    ],
)
def test_what_is_defined_on_one_axis_only_is_refused_on_three(name, settings, why):
    model, inputs = FAMILIES["qwen2_5_vl"]()
    with pytest.raises(PruningError, match=why):
        pruned(generated, get_method(name, **settings), model, inputs, budget=Budget(fraction=0.5))


# --- features that are added behind layers ------------------------------------------------------


def none_of_them(monkeypatch):
    added = Qwen3VLAdapter.added
    monkeypatch.setattr(Qwen3VLAdapter, "added", lambda self, kwargs: (added(self, kwargs)[0], ()))


def the_first_of_them(monkeypatch):
    """As many as tokens are left, but not those of the tokens that are."""

    def first(run, layer, hidden, pieces):
        new, states = after_cut(run, layer, hidden, pieces)
        features = [own[run.visual] for own in run.added]
        where = new.visual[..., None]
        added = tuple(
            torch.zeros_like(states).masked_scatter(where, own[: int(where.sum())])
            for own in features
        )
        moved = replace(new, added=added)
        return moved, states

    monkeypatch.setattr(cutting, "after_cut", first)


@pytest.mark.parametrize("plant", [none_of_them, the_first_of_them])
@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_vl_video"])
def test_every_token_keeps_the_features_that_are_its_own(monkeypatch, plant, name):
    assert apart(name) < 1e-4
    plant(monkeypatch)
    assert apart(name) > 0.01


def test_tokens_are_not_merged_where_features_would_have_to_be():
    model, inputs = FAMILIES["qwen3_vl"]()
    with pytest.raises(PruningError, match=r"pooling is not defined here for Qwen3VLFor.* merges"):
        pruned(generated, get_method("pooling"), model, inputs, budget=Budget(8))


# --- queries and keys ---------------------------------------------------------------------------


def largest_error_of_queries_and_keys(name: str) -> float:
    """Of what an adapter computes, against what a layer's kernel gets."""
    model, inputs = FAMILIES[name]()
    adapter, seen, entering = adapter_for(model), [], []
    layer = adapter.layers[2]
    handle = layer.register_forward_pre_hook(
        lambda module, args, kwargs: entering.append((args[0], kwargs["position_embeddings"])),
        with_kwargs=True,
    )
    with torch.no_grad(), observing({adapter.attention(layer): seen.append}):
        model(**inputs)
        handle.remove()
        rows = torch.tensor([[3, 9], [20, 21]])
        hidden, rotary = entering[0]
        own = adapter.queries_keys(2, hidden, rotary, rows)
    queries = seen[0].queries.gather(2, rows[:, None, :, None].expand_as(own.queries))
    return max((own.queries - queries).abs().max(), (own.keys - seen[0].keys).abs().max()).item()


@pytest.mark.parametrize("name", FAMILIES)
def test_queries_and_keys_are_those_of_the_kernel(name):
    assert largest_error_of_queries_and_keys(name) < 1e-4


def test_queries_and_keys_without_the_norm_of_heads_are_wrong(monkeypatch):
    of_heads = _decoder._of_heads

    def plain(attention, what, states):
        norm = attention._modules.pop(f"{what}_norm")
        try:
            return of_heads(attention, what, states)
        finally:
            attention._modules[f"{what}_norm"] = norm

    monkeypatch.setattr(_decoder, "_of_heads", plain)
    assert largest_error_of_queries_and_keys("qwen3_vl") > 0.1


# --- whose images they are ----------------------------------------------------------------------


def segments_of(name: str) -> list[list[int]]:
    """Tokens of each segment of each sample, as the runtime deals them out."""
    model, inputs = FAMILIES[name]()
    with attach(model, get_method("unpruned"), Budget(1)) as trace, torch.no_grad():
        model(**inputs)
    return [[segment.tokens for segment in sizes.segments] for sizes in trace.prefills[0].sizes]


def test_images_and_videos_are_dealt_out_in_the_order_of_the_prompt():
    assert segments_of("onevision") == [[26, 26], [25, 8 * 8 + 8]]
    first, second = segments_of("onevision_with_video")
    assert (len(first), second[0], len(second)) == (2, 19, 3)
    assert segments_of("qwen2_5_vl") == [[15, 8], [16]]
    # a frame a segment, and a video that is encoded as images is not taken for those
    assert segments_of("qwen3_vl_video") == [[6, 6, 6, 8], [6, 6]]
    assert segments_of("smolvlm") == [[4] * 4, [4] * 3]


def dealt(prompts: list[list[int]], images: list[list[int]], videos: list[list[int]]):
    """Tokens of each segment of each prompt, where images and videos have such segments."""
    calls = EncoderCalls(adapter_for(FAMILIES["qwen2_5_vl"]()[0]))
    for kind, encoded in (("image", images), ("video", videos)):
        calls.encoded[kind] = [tuple(Segment(1, tokens) for tokens in own) for own in encoded]
    kinds = torch.tensor(prompts, dtype=torch.uint8)
    counts = [(kinds == kind).sum(1).tolist() for kind in (1, 2)]
    return [[segment.tokens for segment in own] for own in calls.dealt(kinds, counts)]


def test_dealing_follows_the_kinds():
    mixed = [[0, 1, 1, 0, 2, 0, 1], [0, 0, 2, 2, 2, 0, 0]]
    assert dealt(mixed, [[2], [1]], [[1], [1, 2]]) == [[2, 1, 1], [1, 2]]
    beams = [[0, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert dealt(beams, [[2], [1, 2]], []) == [[2], [2], [1, 2], [1, 2]]
    assert dealt([[0, 0, 0]], [[7]], []) == [[]]  # of an earlier prompt


@pytest.mark.parametrize(
    ("prompts", "images", "videos", "sentence"),
    [
        ([[1, 1, 1]], [], [], "hold 3 image tokens, and 0 were encoded"),
        ([[1, 1, 1]], [[2]], [], "hold 3 image tokens, and 2 were encoded"),
        ([[1, 1, 0], [1, 1, 1]], [[3], [2]], [], "2 image tokens are no whole images in their"),
        ([[2, 2, 0], [2, 2, 2]], [], [[3], [2]], "2 video tokens are no whole videos in their"),
        ([[1, 2], [1, 2]], [[1]], [[1], [1]], "given for different numbers of samples"),
    ],
)
def test_counts_that_do_not_come_out_are_refused(prompts, images, videos, sentence):
    with pytest.raises(PruningError, match=sentence):
        dealt(prompts, images, videos)


def test_images_that_were_encoded_elsewhere_are_refused():
    model, inputs = FAMILIES["llava_next"]()
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with attach(model, LATER, Budget(8)), pytest.raises(PruningError, match="0 were encoded"):
        model(**prompt)
