"""The gate's tests and intervals against tables and closed forms."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest

from harness.regress.significance import (
    change_of_medians,
    holm,
    mcnemar_p,
    rate_bound,
    sign_flip_p,
    sum_interval,
)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 5, 2 / 32),
        (1, 9, 22 / 1024),
        (6, 16, 0.05248),
        (16, 6, 0.05248),
    ],
)
def test_mcnemar_gives_the_binomial_table(gained, lost, p):
    assert mcnemar_p(gained, lost) == pytest.approx(p, abs=5e-6)


@pytest.mark.parametrize(("gained", "lost"), [(0, 5), (1, 9), (4, 8)])
def test_sign_flips_of_single_questions_are_mcnemars_test(gained, lost):
    expected = min(
        1.0, 2 * sum(comb(gained + lost, k) for k in range(gained + 1)) / 2 ** (gained + lost)
    )
    assert sign_flip_p([1.0] * gained + [-1.0] * lost + [0.0] * 7) == pytest.approx(expected)


def test_sign_flips_give_fishers_value_for_darwins_plants():
    """863 of the 2^15 sign patterns of the 15 differences reach the observed sum, 314."""
    plants = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip_p(plants) == pytest.approx(2 * 863 / 2**15)


def test_one_changed_image_is_no_evidence():
    assert sign_flip_p([0.0, 5.0]) == sign_flip_p([]) == 1.0


def test_holm_steps_down_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_the_interval_of_a_sum_is_the_normal_one_for_many_parts():
    parts = np.random.default_rng(0).normal(0.1, 1.0, 2000)
    found = sum_interval(parts)
    half = 1.96 * parts.std(ddof=1) * sqrt(len(parts))
    assert found.value == pytest.approx(parts.sum())
    assert found.high - found.value == pytest.approx(half, rel=0.08)
    assert found.value - found.low == pytest.approx(half, rel=0.08)


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
