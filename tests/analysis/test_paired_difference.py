"""The paired test and its interval: one test, held to scipy's figures and to each other."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.analysis.outcomes import Scores
from harness.analysis.stats import SIGNIFICANCE, Difference, holm, paired_difference, paired_p


def found(differences, images=None, tasks=None) -> Difference:
    """Of answers that differ by so much, each about an image of its own if not told otherwise."""
    ours, theirs = (outcomes(d, images, tasks) for d in (differences, [0.0] * len(differences)))
    difference = paired_difference(ours, theirs)
    assert difference.p == paired_p(ours, theirs)
    return difference


def outcomes(values, images=None, tasks=None):
    images = range(len(values)) if images is None else images
    tasks = ["t"] * len(values) if tasks is None else tasks
    rows: dict[str, list] = {}
    for n, (value, image, task) in enumerate(zip(values, images, tasks, strict=True)):
        rows.setdefault(task, []).append((str(n), str(image), value))
    return {task: Scores.of(of_task) for task, of_task in rows.items()}


def changes(gained: int, lost: int, same: int = 0) -> list[float]:
    return [1.0] * gained + [-1.0] * lost + [0.0] * same


# the test


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
def test_single_questions_give_the_binomial_table_of_mcnemars_test(gained, lost, p):
    assert found(changes(gained, lost, same=1)).p == pytest.approx(p, abs=5e-6)


@pytest.mark.parametrize(("gained", "lost"), [(0, 5), (1, 9), (4, 8), (7, 21), (15, 15)])
def test_single_questions_give_scipys_binomial_test(gained, lost):
    expected = scipy_stats.binomtest(gained, gained + lost).pvalue
    assert found(changes(gained, lost, same=100)).p == pytest.approx(expected)


def test_sign_flips_give_fishers_value_for_darwins_plants():
    """863 of the 2^15 sign patterns of the 15 differences reach the observed sum, 314."""
    plants = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    darwin = found(plants)
    assert darwin.p == pytest.approx(2 * 863 / 2**15)
    assert darwin.low <= 0 < darwin.high


@pytest.mark.parametrize("clustered", [False, True])
def test_many_images_give_scipys_permutation_test(clustered):
    rng = np.random.default_rng(4)
    values = rng.normal(0.15, 1, 150)
    images = np.arange(150) // 3 if clustered else np.arange(150)
    sums = np.bincount(images, values)
    expected = scipy_stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", vectorized=True, n_resamples=9999, rng=rng
    )
    assert found(values, images).p == pytest.approx(expected.pvalue, abs=0.01)


def test_one_changed_image_is_no_evidence():
    assert found([0.0, 5.0]).p == found([5.0]).p == 1.0
    assert math.isnan(paired_p({}, {}))


# the interval


@pytest.mark.parametrize("loc", [0.0, 0.4])
def test_the_bounds_are_the_shifts_at_which_scipys_test_begins_to_reject(loc):
    values = np.random.default_rng(8).normal(loc, 1.0, 14)
    interval = found(values)

    def p(shift):
        return scipy_stats.permutation_test(
            (values - shift,), np.sum, permutation_type="samples", n_resamples=np.inf
        ).pvalue

    for bound, outwards in ((interval.low, -1), (interval.high, 1)):
        assert p(bound - outwards * 1e-6) >= SIGNIFICANCE
        assert p(bound + outwards * 1e-6) < SIGNIFICANCE


def test_the_bounds_of_drawn_flips_are_those_of_all_flips():
    """By enumeration of a case that is drawn: 18 images with different weights."""
    rng = np.random.default_rng(2)
    images = np.repeat(np.arange(18), rng.integers(1, 4, 18))
    values = rng.normal(0.3, 1.0, len(images))
    sums, weights = np.bincount(images, values), np.bincount(images)
    signs = np.array(list(product((1, -1), repeat=17))) @ np.stack([sums[1:], weights[1:]]).T
    flipped = (signs + np.array([sums[0], weights[0]])) / len(values)
    drawn = found(values, images)

    def p(shift):
        observed = abs(values.mean() - shift)
        return (abs(flipped[:, 0] - shift * flipped[:, 1]) >= observed - 1e-12).mean()

    assert drawn.p == pytest.approx(p(0.0), abs=0.01)
    assert p(drawn.low) == pytest.approx(SIGNIFICANCE, abs=0.01)
    assert p(drawn.high) == pytest.approx(SIGNIFICANCE, abs=0.01)


def test_many_independent_images_have_the_normal_interval():
    values = np.random.default_rng(0).normal(0.1, 1.0, 2000)
    interval = found(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.value == pytest.approx(half, rel=0.08)
    assert interval.value - interval.low == pytest.approx(half, rel=0.08)


def test_the_interval_covers_the_difference_as_often_as_it_says():
    rng, covered = np.random.default_rng(3), 0
    for _ in range(200):
        interval = found(rng.normal(0.5, 1.0, 12))
        covered += interval.low <= 0.5 <= interval.high
    assert 181 <= covered <= 198  # 95 %, and 3 standard deviations to either side


def test_up_to_five_images_have_no_interval_and_six_may():
    assert math.isnan(found([1.0] * 5).low)
    six = found([1.0] * 6)
    assert (six.low, six.high) == (pytest.approx(1), pytest.approx(1))
    assert six.significant
    same = found([0.0] * 40)
    assert (same.low, same.value, same.high, same.p) == (0, 0, 0, 1)


values = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-2, 2, width=32))


@st.composite
def questions(draw):
    """Differences, binary or not, of images with unequal numbers of questions in unequal tasks."""
    size = draw(st.integers(1, 60))
    binary = draw(st.booleans())
    of = st.sampled_from([-1.0, 0.0, 1.0]) if binary else values
    few = draw(st.sampled_from([3, 8, 60]))
    lists = (of, st.integers(0, few), st.sampled_from("abc"))
    return [draw(st.lists(each, min_size=size, max_size=size)) for each in lists]


@given(questions())
@example([[1.0] * 6, list(range(6)), "aaaaaa"])
@example([changes(9, 2, 49), list(range(60)), "a" * 60])
@example([[0.1] * 9 + [-0.3] * 3 + [0.0] * 20, list(range(32)), "ab" * 16])
def test_zero_lies_outside_the_interval_exactly_where_p_is_below_5_percent(asked):
    differences, images, tasks = asked
    difference = found(differences, images, tasks)
    outside = difference.low > 0 or difference.high < 0
    assert outside == difference.significant == (difference.p < SIGNIFICANCE)
    if not math.isnan(difference.low):
        assert difference.low <= difference.value + 1e-9
        assert difference.value <= difference.high + 1e-9


def test_the_other_direction_has_the_mirrored_interval():
    values = np.random.default_rng(6).normal(0.2, 1.0, 80)
    up, down = found(values), found(-values)
    assert (down.low, down.value, down.high, down.p) == (-up.high, -up.value, -up.low, up.p)


# Holm


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5], [0.5]),
        ([0.2, 0.2, 0.2], [0.6, 0.6, 0.6]),
        ([1e-4] * 3, [3e-4] * 3),
        ([0.9, 0.8], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_steps_down_and_keeps_the_order(p, adjusted):
    assert holm(p) == pytest.approx(adjusted)
    assert np.isnan(holm([*p, float("nan")])[-1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_procedure_rejects(p, level):
    """Holm 1979: from the smallest p on, reject while p * (how many are left) < level."""
    rejected = set()
    for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if not p[index] * (len(p) - place) < level:
            break
        rejected.add(index)
    assert {i for i, value in enumerate(holm(p)) if value < level} == rejected
