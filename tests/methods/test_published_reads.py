"""Methods with reads of their own: index for index, token for token as their published code."""

from __future__ import annotations

import numpy as np
import pytest
from published_runs import anchors, assert_same_output, generate

from methods import get_method


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
