"""Index for index, token for token: what the published code selects and outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from of_images import CUTTING_ONE_IMAGE
from published_runs import anchors, assert_same_output, generate, recorded

from methods import Budget, InfeasibleBudgetError, attach, get_method
from methods.adapters import adapter_for
from methods.interface import Read
from methods.tensors import apply_cut


def test_unpruned(tiny_llava, published):
    tokens, logits, prefill = generate(tiny_llava, published, get_method("unpruned"), 64)
    assert_same_output(published, "none", tokens, logits)
    assert (prefill.entering == 576).all()


@pytest.mark.parametrize("budget", [192, 64])
def test_fastv(tiny_llava, published, budget):
    tokens, logits, prefill = generate(tiny_llava, published, get_method("fastv"), budget)
    run = f"fastv-{budget}"
    np.testing.assert_array_equal(anchors(prefill)["rank"], published[f"{run}/kept"])
    assert_same_output(published, run, tokens, logits)


@pytest.mark.parametrize("budget", [192, 64])
def test_vitcop(tiny_llava, published, budget):
    tokens, logits, prefill = generate(tiny_llava, published, get_method("vitcop"), budget)
    run, kept = f"vitcop-{budget}", anchors(prefill)
    np.testing.assert_array_equal(kept["vision"] - 1, published[f"{run}/stage1"])
    np.testing.assert_array_equal(kept["deep"], published[f"{run}/stage3"])
    np.testing.assert_array_equal(kept["shallow"], published[f"{run}/stage2_pos"])
    shallow = next(s for s in prefill.selections if s.stage == "shallow")
    merged = shallow.cut.add_anchor[0].numpy()
    np.testing.assert_array_equal(kept["shallow"][~merged], np.sort(published[f"{run}/sel"]))
    np.testing.assert_array_equal(kept["shallow"][merged], np.sort(published[f"{run}/mpos"]))
    assert_same_output(published, run, tokens, logits)


@pytest.mark.parametrize("budget", [192, 64])
def test_visionzip(tiny_llava, published, budget):
    tokens, logits, prefill = generate(tiny_llava, published, get_method("visionzip"), budget)
    dominant = published[f"visionzip-{budget}/dominant"]
    np.testing.assert_array_equal(anchors(prefill)["zip"][: len(dominant)], dominant)
    assert_same_output(published, f"visionzip-{budget}", tokens, logits)


@pytest.mark.parametrize("budget", [192, 64])
def test_sparsevlm(tiny_llava, published, budget):
    method, run = get_method("sparsevlm", schedule="published"), f"sparsevlm-{budget}"
    tokens, logits, prefill = generate(tiny_llava, published, method, budget)
    for layer in (2, 6, 15):
        kept = published[f"{run}/kept{layer}"]
        np.testing.assert_array_equal(anchors(prefill)[f"after{layer}"][: len(kept)], kept)
    left = published[f"{run}/visual_per_layer_after"]
    assert prefill.entering[0, 1:].tolist() == left.tolist()[:31]
    assert_same_output(published, run, tokens, logits)


def test_pyramiddrop(tiny_llava, published):
    method = get_method("pyramiddrop", schedule="published")
    tokens, logits, prefill = generate(tiny_llava, published, method, 270)
    for stage, layer in (("drop1", 8), ("drop2", 16), ("drop3", 24)):
        kept = published[f"pyramiddrop-default/kept{layer}"]
        np.testing.assert_array_equal(anchors(prefill)[stage], kept)
    assert_same_output(published, "pyramiddrop-default", tokens, logits)


@pytest.mark.parametrize("name", sorted(CUTTING_ONE_IMAGE))
@pytest.mark.parametrize("budget", [192, 128, 64])
def test_counted_tokens_are_within_one_of_the_request(tiny_llava, published, name, budget):
    method = get_method(name)
    ids, pixels = (torch.from_numpy(published[key]) for key in ("input_ids", "pixel_values"))

    @torch.no_grad()
    def prefill_at(tokens):
        with attach(tiny_llava, method, Budget(tokens)) as trace:
            tiny_llava(input_ids=ids.long(), pixel_values=pixels)
        return trace.prefills[-1]

    low, high = method.feasible(adapter_for(tiny_llava).sizes(576))
    if not low <= budget <= high:
        with pytest.raises(InfeasibleBudgetError, match=f"feasible is {low} to {high}"):
            prefill_at(budget)
        budget = min(max(budget, low), high)
    prefill = prefill_at(budget)
    assert torch.equal(prefill.entering, prefill.planned)
    assert abs(prefill.entering.float().mean() - budget) <= 1
    assert torch.equal(prefill.cached, prefill.entering + prefill.text[:, None])


def close(found, expected):
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("budget", [192, 64])
def test_what_sparsevlm_finds_on_the_way(tiny_llava, published, budget):
    seen, run = {}, f"sparsevlm-{budget}"
    method = recorded(get_method("sparsevlm", schedule="published"), seen)
    generate(tiny_llava, published, method, budget)
    view, selection = seen["raters"]
    chosen = selection.text["raters"][0][view.text_after_image[0]]
    np.testing.assert_array_equal(chosen.nonzero()[:, 0].numpy(), published[f"{run}/raters"])
    for layer in (2, 6, 15):
        view, selection = seen[f"after{layer}"]
        recycled = apply_cut(view[Read.HIDDEN], selection.cut)[0]
        recycled = recycled[len(published[f"{run}/kept{layer}"]) :]
        close(recycled, published[f"{run}/merged{layer}"])


@pytest.mark.parametrize("budget", [192, 64])
def test_what_visionzip_hands_to_the_projector(tiny_llava, published, budget):
    seen = {}
    generate(tiny_llava, published, recorded(get_method("visionzip"), seen), budget)
    view, selection = seen["zip"]
    features = apply_cut(view[Read.FEATURES], selection.cut)[0]
    close(features, published[f"visionzip-{budget}/features"].reshape(features.shape))


@pytest.mark.parametrize("budget", [192, 64])
def test_what_vitcop_clusters_and_merges(tiny_llava, published, budget):
    seen, run = {}, f"vitcop-{budget}"
    _, _, prefill = generate(tiny_llava, published, recorded(get_method("vitcop"), seen), budget)
    labels = seen["vision"][1].visual["labels"][0].tolist()
    pairs = set(zip(labels, published[f"{run}/labels"].tolist(), strict=True))
    assert len(pairs) == len(set(labels)) == len({theirs for _, theirs in pairs})
    assert list(prefill.plans[0].parameters["tokens"][1:]) == published[f"{run}/R"].tolist()
    view, selection = seen["shallow"]
    merged = apply_cut(view[Read.HIDDEN], selection.cut)[0]
    close(merged, published[f"{run}/stage2_hidden"].reshape(merged.shape))
