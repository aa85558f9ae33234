"""Methods with stages in the vision tower, on families other than LLaVA-1.5."""

from __future__ import annotations

import contract
import pytest
import torch
from flash_stand_in import flash_path
from forbidden_keys import generated, holds_its_promise, left_padded_rows, pruned
from tiny_families import FAMILIES, IMAGE, alone
from torch import Tensor
from tower_methods import IN_TOWER, OWN_IMAGES

from methods import Budget, get_method

DEFINED = [(family, name) for family in OWN_IMAGES for name in IN_TOWER.get(family, ())]
BUDGETS = (Budget(fraction=0.5), Budget(fraction=0.3), Budget(40))


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
        own = alone(inputs, row, {"pixel_values": images, "image_sizes": images})
        (logits, same), single = pruned(generated, method, model, own, budget=share)
        assert torch.equal(tokens[row : row + 1], same)
        torch.testing.assert_close(together[row : row + 1], logits, atol=1e-4, rtol=0)
        assert torch.equal(trace.prefills[-1].entering[row], single.prefills[-1].entering[0])


@pytest.mark.parametrize("name", ["fastervlm", "vispruner", "scope", "hiprune", "hired", "holov"])
def test_what_is_kept_of_crops_is_a_shorter_prompt(name):
    """The stock model on the embeddings of those patches, in that order and nothing else."""
    model, inputs = FAMILIES["llava_next"]()
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
    with torch.no_grad():
        shown = model.model.vision_tower(crops, output_hidden_states=True).hidden_states[-2]
        return model.model.multi_modal_projector(shown).flatten(0, 1)


def with_images(model, inputs, row: int, images: list[Tensor]) -> Tensor:
    """A prompt's embeddings with other rows in the place of its images."""
    ids = inputs["input_ids"][row, inputs["attention_mask"][row].bool()]
    left, parts = iter(images), []
    for run in ids.split(ids.unique_consecutive(return_counts=True)[1].tolist()):
        text = model.get_input_embeddings()(run).detach()
        parts.append(next(left) if run[0] == IMAGE else text)
    return torch.cat(parts)
