"""What may be called best, or no better than the control, among made-up scores."""

from __future__ import annotations

from harness.analysis.emphasis import Emphasis, emphasised, no_better
from harness.analysis.outcomes import Scores


def outcomes(values):
    return {"t": Scores.of([(str(n), str(n), value) for n, value in enumerate(values)])}


def test_worse_than_random_is_marked_even_if_significantly_so():
    many = [outcomes([score] * 40) for score in (0.0, 1.0, 0.5)]
    assert no_better(many[:2], many[2]) == {0}


def test_holm_counts_all_comparisons_of_the_block():
    """A difference that is significant alone is not among many columns."""
    base, worse = outcomes([1.0] * 40), outcomes([0.0] * 7 + [1.0] * 33)  # p = 2/128
    alone = [{"a": base}, {"a": worse}]
    many = [dict.fromkeys("abcdefgh", base), {"a": worse, **dict.fromkeys("bcdefgh", base)}]
    assert (1, "a") not in emphasised(alone, Emphasis.SIGNIFICANT)
    assert (1, "a") in emphasised(many, Emphasis.SIGNIFICANT)
