"""Methods with stages in the vision tower, on families other than LLaVA-1.5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product

import contract
import pytest
import torch
from flash_stand_in import flash_path
from forbidden_keys import generated, holds_its_promise, left_padded_rows, pruned
from tiny_families import FAMILIES, IMAGE, VIDEO, alone, left_padded
from torch import Tensor
from tower_methods import IN_TOWER, OWN_IMAGES

from methods import Budget, get_method
from methods.adapters import adapter_for
from methods.interface import Cut, Segment
from methods.tensors import apply_cut

DEFINED = [
    (family, name)
    for family in OWN_IMAGES
    for name in IN_TOWER.get(family, ())
    if (family, name) != ("onevision", "vscan")
]
BUDGETS = (Budget(fraction=0.5), Budget(fraction=0.3), Budget(36))
OF_TILES = (Budget(fraction=0.5), Budget(fraction=0.7))
"""Where a tile has four tokens."""


@pytest.mark.parametrize(("family", "name"), DEFINED)
def test_budgets_are_met_whatever_the_size_of_an_image(family, name):
    model, inputs = FAMILIES[family]()
    for budget in OF_TILES if family in ("internvl", "smolvlm") else BUDGETS:
        _, trace = pruned(generated, get_method(name), model, inputs, budget=budget)
        holds_its_promise(trace)
        (prefill,) = trace.prefills
        for entering, sizes in zip(prefill.entering, prefill.sizes, strict=True):
            asked = min(budget.of(sizes.tokens), sizes.tokens)
            assert abs(entering.double().mean() - float(asked)) <= 1


@pytest.mark.parametrize(("family", "name"), DEFINED)
def test_the_ends_of_the_range_are_met(family, name):
    model, inputs = FAMILIES[family]()
    own = alone(inputs, 0, OWN_IMAGES[family][0])
    _, trace = pruned(generated, get_method("unpruned"), model, own)
    (sizes,) = trace.prefills[-1].sizes
    low, high = get_method(name).feasible(sizes)
    assert low is not None
    for tokens in (low, min(high, sizes.tokens - 1)):
        _, trace = pruned(generated, get_method(name), model, own, budget=Budget(tokens))
        holds_its_promise(trace)
        assert abs(trace.prefills[-1].entering.double().mean() - tokens) <= 1


@pytest.mark.parametrize(("family", "name"), DEFINED)
def test_a_prompt_alone_and_another_kernel_give_the_same(family, name):
    model, inputs = FAMILIES[family]()
    method, share = get_method(name), Budget(fraction=0.5)
    (together, tokens), trace = pruned(generated, method, model, inputs, budget=share)
    with flash_path(model):
        (others, same), again = pruned(generated, method, model, inputs, budget=share)
    assert torch.equal(tokens, same)
    torch.testing.assert_close(together, others, atol=1e-4, rtol=0)
    contract.assert_same_selections(trace, again)
    for row, images in OWN_IMAGES[family].items():
        own = alone(inputs, row, images)
        (logits, same), single = pruned(generated, method, model, own, budget=share)
        assert torch.equal(tokens[row : row + 1], same)
        torch.testing.assert_close(together[row : row + 1], logits, atol=1e-4, rtol=0)
        assert torch.equal(trace.prefills[-1].entering[row], single.prefills[-1].entering[0])


BEFORE_THE_DECODER = (
    *("fastervlm", "vispruner", "scope", "hiprune", "hired", "holov"),
    *("prumerge", "visionzip"),
)
"""Methods that do all they do between tower and projector."""


@pytest.mark.parametrize(
    ("family", "name"),
    product(["llava_next", "onevision", "onevision_crops", "internvl"], BEFORE_THE_DECODER),
)
def test_what_comes_of_the_tower_is_a_shorter_prompt(family, name):
    """The stock model on what the cuts leave of the tower's features, and nothing else."""
    model, inputs = FAMILIES[family]()
    half = Budget(fraction=0.5)
    (logits, tokens), trace = pruned(generated, get_method(name), model, inputs, budget=half)
    prefill = trace.prefills[-1]
    features = iter(features_of(model, inputs, prefill.sizes))
    prompts = [shorter(model, inputs, prefill, row, features) for row in range(2)]
    expected, same = generated(model, left_padded_rows(prompts))
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def features_of(model, inputs, sizes) -> Tensor:
    """What the stock tower makes of all crops, or tiles, as it is projected: [i, rows, width]."""
    pixels, adapter = inputs["pixel_values"], adapter_for(model)
    if pixels.dim() == 5:
        counts = [sum(s.tower_images for s in own) for sample in sizes for own in sample.images]
        pixels = torch.cat([crops[:n] for crops, n in zip(pixels, counts, strict=True)])
    layer = model.config.vision_feature_layer
    with torch.no_grad():
        shown = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
        return adapter.as_projected(shown)


def shorter(model, inputs, prefill, row: int, features: Iterator[Tensor]) -> Tensor:
    """A prompt's embeddings with what its cuts leave in the place of its images."""
    ids = inputs["input_ids"][row, inputs["attention_mask"][row].bool()]
    own, parts = iter(cuts_of(prefill, row)), []
    for run in ids.split(ids.unique_consecutive(return_counts=True)[1].tolist()):
        if run[0] != IMAGE:
            parts.append(model.get_input_embeddings()(run).detach())
            continue
        tokens = len(run)
        while tokens:
            segments, cut = next(own)
            tokens -= sum(segment.tokens for segment in segments)
            crops = islice(features, sum(segment.tower_images for segment in segments))
            with torch.no_grad():
                left = apply_cut(torch.cat(list(crops))[None], cut)
                parts.append(adapter_for(model).project(left)[0])
    return torch.cat(parts)


def cuts_of(prefill, row: int) -> Iterator[tuple[Sequence[Segment], Cut]]:
    """Each stage's segments and cut of one sample."""
    segments = iter(prefill.sizes[row].segments)
    own = [selection for selection in prefill.selections if row in selection.rows]
    for selection, stage in zip(own, prefill.plans[row].encoder, strict=True):
        place = selection.rows.index(row)
        only = {k: v[place : place + 1] for k, v in vars(selection.cut).items() if v is not None}
        yield list(islice(segments, stage.segments)), Cut(**only)


def test_a_video_beside_an_image_does_not_stand_for_it():
    """The tower is called for each, the video last; a prompt within the budget stays whole."""
    model, both = FAMILIES["onevision_with_video"]()
    tokens = Budget(25)
    ids = both["input_ids"][0, both["attention_mask"][0].bool()].tolist()
    prompts = left_padded(ids, [5, 6, *[VIDEO] * 19, 7, 8])
    images = {name: both[name][:1] for name in ("pixel_values", "image_sizes")}
    videos = {"pixel_values_videos": both["pixel_values_videos"]}
    batch = {**prompts, **images, **videos}
    (logits, _), trace = pruned(generated, get_method("fastervlm"), model, batch, budget=tokens)
    assert trace.prefills[-1].entering[:, 0].tolist() == [25, 19]
    own = {**left_padded(ids), **images}
    (alone_logits, _), _ = pruned(generated, get_method("fastervlm"), model, own, budget=tokens)
    torch.testing.assert_close(logits[:1], alone_logits, atol=1e-4, rtol=0)
