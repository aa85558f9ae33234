"""Further methods, index for index and token for token with their published code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from published_runs import anchors, assert_same_output, generate, recorded
from torch.nn.functional import normalize

from baselines.cdpruner import most_probable, scaled
from baselines.divprune import most_diverse
from baselines.gprune import arrived
from baselines.scope import most_covering
from methods import Budget, attach, get_method
from methods.interface import Read

BUDGETS, IMAGE = (192, 64), 319


@pytest.fixture
def atol(tiny_llava):
    """How far logits may lie from those of eager attention, by kernel."""
    return 1e-4 if tiny_llava.config._attn_implementation == "eager" else 2e-3


def patches(method, prefill):
    """Those kept, in their order in the language model."""
    (kept,) = anchors(prefill).values()
    return kept - int(bool(method.tower_reads))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", ["fastervlm", "hired", "divprune", "scope", "gprune"])
def test_what_is_kept_and_said(tiny_llava, published, more_published, atol, name, budget):
    method, run = get_method(name), f"{name}-{budget}"
    tokens, logits, prefill = generate(tiny_llava, published, method, budget)
    np.testing.assert_array_equal(patches(method, prefill), more_published[f"{run}/kept"])
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.fixture
def crops(published):
    """A prompt with the picture and its four quadrants, doubled, as five images."""
    whole = torch.from_numpy(published["pixel_values"])
    large = whole.repeat_interleave(2, -1).repeat_interleave(2, -2)
    quarters = [part for rows in large.chunk(2, -2) for part in rows.chunk(2, -1)]
    ids = published["input_ids"][0]
    ids = np.concatenate([ids[ids != IMAGE][:3], [IMAGE] * 5 * 576, ids[ids != IMAGE][3:]])
    return {"input_ids": torch.from_numpy(ids)[None], "pixel_values": torch.cat([whole, *quarters])}


@pytest.mark.parametrize("tiny_llava", ["eager"], indirect=True)
@pytest.mark.parametrize("budget", [640, 160])
@pytest.mark.parametrize(
    ("name", "key"), [("fastervlm", "mask"), ("vispruner", "mask64"), ("scope", "picked")]
)
def test_each_image_keeps_what_its_crop_does(tiny_llava, more_published, crops, name, key, budget):
    """With the kernel that made them: VisPruner's rounds carry on what features differ by."""
    with attach(tiny_llava, get_method(name), Budget(budget)) as trace, torch.no_grad():
        tiny_llava(**crops)
    expected = more_published[f"{name}-next{budget}/{key}"]
    for own, selection in zip(expected, trace.prefills[-1].selections, strict=True):
        patches = own.nonzero()[0] if own.dtype == bool else np.sort(own)
        np.testing.assert_array_equal(selection.cut.anchors[0].numpy() - 1, patches)


@pytest.mark.parametrize("budget", [48, 16])
def test_cdpruner_by_the_prompts_text(tiny_llava, published, more_published, atol, budget):
    """Fewer than the 64 directions that the model has."""
    method, run = get_method("cdpruner"), f"cdpruner-text-{budget}"
    tokens, logits, prefill = generate(tiny_llava, published, method, budget)
    np.testing.assert_array_equal(patches(method, prefill), more_published[f"{run}/kept"])
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.mark.parametrize("budget", [192, 128, 64])
def test_cdpruners_choice_by_clips_relevance(more_published, budget):
    random = np.random.RandomState(100)
    draw = random.standard_normal
    base, mix, noise = draw((40, 768)), draw((576, 40)), draw((576, 768))
    image, text = draw((576, 32)), draw((1, 32))
    features = torch.from_numpy(mix @ base * 0.15 + noise).float()
    cosines = [normalize(torch.from_numpy(rows).float(), dim=-1) for rows in (image, text)]
    relevance = scaled(-(cosines[0] @ cosines[1].T).mean(-1)[None])
    chosen = most_probable(features[None], relevance, budget)
    kept = more_published[f"cdpruner-wide{budget}/kept"]
    np.testing.assert_array_equal(chosen[0].numpy(), kept)


@pytest.mark.parametrize("budget", [48, 16])
def test_cdpruners_choice_of_the_models_tokens(tiny_llava, published, more_published, budget):
    seen, run = {}, f"cdpruner-{budget}"
    generate(tiny_llava, published, recorded(get_method("cdpruner"), seen), budget)
    view, _ = seen["diverse"]
    image, text = (
        normalize(torch.from_numpy(more_published[f"{run}/{name}_embeds"]), dim=-1)
        for name in ("image", "text")
    )
    relevance = scaled(-(image @ text.T).mean(-1)[None])
    chosen = most_probable(view[Read.HIDDEN], relevance, budget)
    np.testing.assert_array_equal(chosen[0].numpy(), more_published[f"{run}/kept"])


@pytest.mark.parametrize("budget", BUDGETS)
def test_vispruner_in_float64(tiny_llava, published, more_published, atol, budget):
    method, run = get_method("vispruner"), f"vispruner-{budget}"
    tokens, logits, prefill = generate(tiny_llava, published, method, budget)
    (expected,) = more_published[f"{run}/mask64"]
    np.testing.assert_array_equal(patches(method, prefill), expected.nonzero()[0])
    assert tokens.tolist() == more_published[f"{run}/tokens64"].tolist()
    np.testing.assert_allclose(logits.numpy(), more_published[f"{run}/logits64"], atol=atol, rtol=0)


@pytest.mark.parametrize("tiny_llava", ["eager"], indirect=True)
@pytest.mark.parametrize("budget", BUDGETS)
def test_vispruner_with_more_important_tokens(tiny_llava, published, more_published, budget):
    """Stored from float32, so for the features of the same kernel only."""
    method, run = get_method("vispruner", important_ratio=0.75), f"vispruner-{budget}-r0.75"
    tokens, logits, prefill = generate(tiny_llava, published, method, budget)
    np.testing.assert_array_equal(patches(method, prefill), more_published[f"{run}/kept"])
    assert_same_output(more_published, run, tokens, logits)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", ["divprune", "scope"])
def test_the_order_of_choice(tiny_llava, published, more_published, name, budget):
    seen = {}
    generate(tiny_llava, published, recorded(get_method(name), seen), budget)
    ((view, _),) = seen.values()
    if name == "divprune":
        picked = most_diverse(view[Read.HIDDEN], budget)
    else:
        saliency = view[Read.CLS_ATTENTION].sum(1)
        picked = most_covering(view[Read.FEATURES][:, 1:], saliency, budget)
    np.testing.assert_array_equal(picked[0].numpy(), more_published[f"{name}-{budget}/picked"])


def test_holov_where_no_run_overflows(tiny_llava, published, more_published, atol):
    method, run = get_method("holov"), "holov-64"
    tokens, logits, prefill = generate(tiny_llava, published, method, 64)
    np.testing.assert_array_equal(patches(method, prefill), more_published[f"{run}/order"])
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.mark.parametrize("budget", [192, 400])
def test_holov_keeps_patches_where_the_code_appends_zeros(
    tiny_llava, published, more_published, budget
):
    seen, run = {}, f"holov-{budget}"
    _, _, prefill = generate(tiny_llava, published, recorded(get_method("holov"), seen), budget)
    (kept,) = anchors(prefill).values()
    assert len(set(kept)) == budget
    theirs = more_published[f"{run}/order"]
    assert (theirs == -1).sum() == more_published[f"{run}/padded"] > 0
    assert set(theirs[theirs >= 0]) < set(kept - 1)


def test_what_flows_in_gprune(tiny_llava, published, more_published):
    seen = {}
    generate(tiny_llava, published, recorded(get_method("gprune"), seen), 64)
    view, _ = seen["graph"]
    scores = arrived(view[Read.HIDDEN])[0].numpy()
    np.testing.assert_allclose(scores, more_published["gprune-64/score"], rtol=1e-4)
