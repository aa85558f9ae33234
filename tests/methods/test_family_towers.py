"""Methods with stages in the vision tower, on families other than LLaVA-1.5."""

from __future__ import annotations

from itertools import product

import contract
import pytest
import torch
from flash_stand_in import flash_path
from forbidden_keys import generated, holds_its_promise, left_padded_rows, pruned
from tiny_families import FAMILIES, IMAGE, VIDEO, alone, left_padded
from torch import Tensor
from tower_methods import IN_TOWER, OWN_IMAGES

from methods import Budget, get_method

DEFINED = [
    (family, name)
    for family in OWN_IMAGES
    for name in IN_TOWER.get(family, ())
    if (family, name) != ("onevision", "vscan")
]
BUDGETS = (Budget(fraction=0.5), Budget(fraction=0.3), Budget(36))


@pytest.mark.parametrize(("family", "name"), DEFINED)
def test_budgets_are_met_whatever_the_size_of_an_image(family, name):
    model, inputs = FAMILIES[family]()
    for budget in BUDGETS:
        _, trace = pruned(generated, get_method(name), model, inputs, budget=budget)
        holds_its_promise(trace)
        (prefill,) = trace.prefills
        for entering, sizes in zip(prefill.entering, prefill.sizes, strict=True):
            assert abs(entering.double().mean() - float(budget.of(sizes.tokens))) <= 1


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


KEEPING = ("fastervlm", "vispruner", "scope", "hiprune", "hired", "holov")
"""Methods that merge nothing, and only keep what the tower shows."""


@pytest.mark.parametrize(
    ("family", "name"), product(["llava_next", "onevision", "onevision_crops"], KEEPING)
)
def test_what_is_kept_of_crops_is_a_shorter_prompt(family, name):
    """The stock model on the embeddings of those patches, in that order and nothing else."""
    model, inputs = FAMILIES[family]()
    (logits, tokens), trace = pruned(generated, get_method(name), model, inputs)
    prefill = trace.prefills[-1]
    prompts, pixels = [], iter(inputs["pixel_values"])
    for row, sizes in enumerate(prefill.sizes):
        kept = iter(kept_rows(prefill, row))
        images = []
        for segments in sizes.images:
            crops = next(pixels)[: sum(segment.tower_images for segment in segments)]
            left = len(segments)
            rows = []
            while left:
                anchors, of = next(kept)
                rows.append(embedded(model, crops[len(segments) - left :])[anchors])
                left -= of
            images.append(torch.cat(rows))
        prompts.append(with_images(model, inputs, row, images))
    expected, same = generated(model, left_padded_rows(prompts))
    assert torch.equal(tokens, same)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def kept_rows(prefill, row: int) -> list[tuple[Tensor, int]]:
    """What each stage kept of a sample's rows in the tower, and of how many segments it is."""
    own = [selection for selection in prefill.selections if row in selection.rows]
    stages = prefill.plans[row].encoder
    return [
        (selection.cut.anchors[selection.rows.index(row)], stage.segments)
        for selection, stage in zip(own, stages, strict=True)
    ]


def embedded(model, crops: Tensor) -> Tensor:
    """Crops in the language model's width, row after row of the tower, the CLS rows among them."""
    layer = model.config.vision_feature_layer
    with torch.no_grad():
        shown = model.model.vision_tower(crops, output_hidden_states=True).hidden_states[layer]
        return model.model.multi_modal_projector(shown).flatten(0, 1)


def with_images(model, inputs, row: int, images: list[Tensor]) -> Tensor:
    """A prompt's embeddings with other rows in the place of its images."""
    ids = inputs["input_ids"][row, inputs["attention_mask"][row].bool()]
    left, parts = iter(images), []
    for run in ids.split(ids.unique_consecutive(return_counts=True)[1].tolist()):
        text = model.get_input_embeddings()(run).detach()
        parts.append(next(left) if run[0] == IMAGE else text)
    return torch.cat(parts)


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
