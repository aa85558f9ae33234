"""Methods with reads of their own: index for index, token for token as their published code."""

from __future__ import annotations

import numpy as np
import pytest
from published_runs import anchors, assert_same_output, generate, recorded

from methods import get_method
from methods.interface import Read
from methods.tensors import apply_cut


@pytest.fixture
def atol(tiny_llava):
    """How far logits may lie from those of eager attention, by kernel."""
    return 1e-4 if tiny_llava.config._attn_implementation == "eager" else 2e-3


def followed(prefill):
    """What each stage of the decoder left, as rows of the unpruned sequence."""
    rows, left = np.arange(576), {}
    for selection in prefill.selections:
        rows = left[selection.stage] = rows[selection.cut.anchors[0].numpy()]
    return left


@pytest.mark.parametrize("budget", [192, 64])
def test_hiprune(tiny_llava, published, more_published, atol, budget):
    run = f"hiprune-{budget}"
    tokens, logits, prefill = generate(tiny_llava, published, get_method("hiprune"), budget)
    np.testing.assert_array_equal(anchors(prefill)["hierarchy"] - 1, more_published[f"{run}/kept"])
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.mark.parametrize("budget", [640, 160])
def test_hiprune_of_five_crops(tiny_llava, published, more_published, budget):
    """As five images: the whole, and the quadrants of the whole doubled."""
    whole = published["pixel_values"][0]
    doubled = whole.repeat(2, axis=1).repeat(2, axis=2)
    quadrants = [doubled[:, y : y + 168, x : x + 168] for y in (0, 168) for x in (0, 168)]
    ids = published["input_ids"][0].tolist()
    start = ids.index(319)
    prompt = [*ids[:start], *[319] * (5 * 576), *ids[start + 576 :]]
    inputs = {"input_ids": np.array([prompt]), "pixel_values": np.stack([whole, *quadrants])}
    _, _, prefill = generate(tiny_llava, inputs, get_method("hiprune"), budget)
    masks = np.zeros((5, 577), bool)
    for selection in prefill.selections:
        masks[selection.segment, selection.cut.anchors[0].numpy()] = True
    np.testing.assert_array_equal(masks[:, 1:], more_published[f"hiprune-next{budget}/mask"])


@pytest.mark.parametrize(
    ("budget", "schedule"), [(192, "matched"), (64, "matched"), (0, "published")]
)
def test_v2drop(tiny_llava, published, more_published, atol, budget, schedule):
    run = f"v2drop-{budget or 'default'}"
    method = get_method("v2drop", schedule=schedule)
    tokens, logits, prefill = generate(tiny_llava, published, method, budget or 203)
    for stage, layer in (("drop1", 3), ("drop2", 17), ("drop3", 22)):
        np.testing.assert_array_equal(
            followed(prefill)[stage], more_published[f"{run}/kept{layer}"]
        )
    assert prefill.entering[0].tolist() == more_published[f"{run}/entering"].tolist()
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.mark.parametrize("budget", [192, 64])
def test_fastv_without_rope(tiny_llava, published, more_published, atol, budget):
    method, run = get_method("fastv", rope=False), f"norope-{budget}"
    tokens, logits, prefill = generate(tiny_llava, published, method, budget)
    np.testing.assert_array_equal(anchors(prefill)["rank"], more_published[f"{run}/kept2"])
    assert_same_output(more_published, run, tokens, logits, atol)


def test_fastv_without_rope_as_published(tiny_llava, published, more_published, atol):
    method, run = get_method("fastv", rope=False, layer=3), "norope-default"
    tokens, logits, prefill = generate(tiny_llava, published, method, 184.5)
    np.testing.assert_array_equal(anchors(prefill)["rank"], more_published[f"{run}/kept3"])
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.mark.parametrize(
    ("run", "tokens"), [("192", 160), ("64", 24), ("m192", 192), ("m128", 128), ("m64", 64)]
)
def test_dart(tiny_llava, published, more_published, atol, run, tokens):
    method, run = get_method("dart", schedule="published", max_tokens=tokens), f"dart-{run}"
    tokens, logits, prefill = generate(tiny_llava, published, method, 64)
    np.testing.assert_array_equal(anchors(prefill)["unlike"], more_published[f"{run}/kept"])
    assert prefill.entering[0].tolist() == more_published[f"{run}/entering"].tolist()
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.mark.parametrize("variant", ["plain", "plus"])
@pytest.mark.parametrize("budget", [192, 64])
def test_prumerge(tiny_llava, published, more_published, atol, variant, budget):
    seen, method = {}, get_method("prumerge", variant=variant)
    run = f"prumerge{'plus' if variant == 'plus' else ''}-{budget}"
    tokens, logits, prefill = generate(tiny_llava, published, recorded(method, seen), budget)
    best = more_published[f"{run}/top"]
    np.testing.assert_array_equal(anchors(prefill)["merge"][: len(best)] - 1, best)
    if variant == "plus":
        assert prefill.plans[0].parameters["steps"] == (more_published[f"{run}/step"],)
    view, selection = seen["merge"]
    features = apply_cut(view[Read.FEATURES], selection.cut)[0]
    np.testing.assert_allclose(features.numpy(), more_published[f"{run}/features"], atol=1e-4)
    assert_same_output(more_published, run, tokens, logits, atol)


def test_prumerge_where_outliers_decided(tiny_llava, published, more_published, atol):
    """On this image 107, which a budget can ask for too."""
    tokens, logits, prefill = generate(tiny_llava, published, get_method("prumerge"), 108)
    best = more_published["prumerge-adaptive/top"]
    np.testing.assert_array_equal(anchors(prefill)["merge"][:-1] - 1, best)
    assert_same_output(more_published, "prumerge-adaptive", tokens, logits, atol)


@pytest.mark.parametrize(
    ("run", "layers", "dropped"),
    [("default", (8, 16), 0.7), ("192", (8, 16), 0.79), ("64", (2, 4), 0.7)],
)
def test_feather(tiny_llava, published, more_published, atol, run, layers, dropped):
    """At the counts that came of the union of grid and best."""
    method, run = get_method("feather", dropped=dropped), f"feather-{run}"
    entering = more_published[f"{run}/entering"]
    tokens, logits, prefill = generate(tiny_llava, published, method, float(entering.mean()))
    assert prefill.entering[0].tolist() == entering.tolist()
    for stage, layer in zip(("union", "best"), layers, strict=True):
        np.testing.assert_array_equal(
            followed(prefill)[stage], more_published[f"{run}/kept{layer}"]
        )
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.mark.parametrize("percent", [0, 40, 60, 70, 80, 90])
def test_fitprune(tiny_llava, published, more_published, atol, percent):
    method, run = (
        get_method("fitprune", schedule="published", percent=percent),
        f"fitprune-{percent}",
    )
    tokens, logits, prefill = generate(tiny_llava, published, method, 64)
    entered, left = np.zeros((32, 576), bool), followed(prefill)
    rows = np.arange(576)
    for layer in range(32):
        rows = left.get(f"after{layer - 1}", rows)
        entered[layer, rows] = True
    np.testing.assert_array_equal(entered, more_published[f"{run}/entered"])
    assert_same_output(more_published, run, tokens, logits, atol)


@pytest.mark.parametrize(
    ("run", "budget", "settings"),
    [
        ("192", 192, {}),
        ("64", 64, {}),
        ("literal-64", 64, {"schedule": "published"}),
        ("literal-64", 64, {"tower_layer": 5}),
        ("odd-100", 100, {"schedule": "published", "tower_layer": 1}),
    ],
)
def test_vscan(tiny_llava, published, more_published, atol, run, budget, settings):
    seen, method, run = {}, get_method("vscan", **settings), f"vscan-{run}"
    tokens, logits, prefill = generate(tiny_llava, published, recorded(method, seen), budget)
    kept = anchors(prefill)
    np.testing.assert_array_equal(kept["merge"], more_published[f"{run}/kept"])
    np.testing.assert_array_equal(kept["rank"], more_published[f"{run}/kept16"])
    assert prefill.entering[0].tolist() == more_published[f"{run}/entering"].tolist()
    view, selection = seen["merge"]
    features = apply_cut(view[Read.HIDDEN], selection.cut)[0]
    np.testing.assert_allclose(features.numpy(), more_published[f"{run}/features"], atol=1e-4)
    assert_same_output(more_published, run, tokens, logits, atol)
