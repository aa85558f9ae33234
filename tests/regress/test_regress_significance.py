"""The gate's intervals of ratios and rates against tables and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from harness.regress.significance import change_of_medians, rate_bound


def test_the_interval_of_a_change_covers_it_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(100):
        before, after = rng.normal(1.0, 0.05, 40), rng.normal(1.1, 0.05, 40)
        found = change_of_medians((after,), (before,))
        covered += found.low <= 0.1 <= found.high
    assert 89 <= covered <= 100


def test_the_change_of_a_quotient_is_that_of_its_medians():
    ones = np.ones(9)
    assert change_of_medians((6 * ones, 2 * ones), (4 * ones, 2 * ones)).value == 0.5


@pytest.mark.parametrize(("events", "bound"), [(0, 0.0582), (1, 0.0914), (50, 1.0)])
def test_the_bound_of_a_rate_is_clopper_and_pearsons(events, bound):
    assert rate_bound(events, 50) == pytest.approx(bound, abs=5e-5)
