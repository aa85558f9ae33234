"""Intervals and tests against scipy, known values and degenerate data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.analysis import stats
from harness.analysis.outcomes import Scores


def outcomes(scores, images=None, task="t"):
    images = images or [f"i{n}" for n in range(len(scores))]
    pairs = zip(images, scores, strict=True)
    return {task: Scores.of([(str(n), image, s) for n, (image, s) in enumerate(pairs)])}


def test_the_interval_of_independent_questions_is_scipys_bootstrap():
    scores = np.random.default_rng(1).integers(0, 2, 200).astype(float)
    expected = scipy_stats.bootstrap(
        (scores,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(2)
    ).confidence_interval
    found = stats.mean_interval(outcomes(scores))
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(expected.low, abs=0.01)
    assert found.high == pytest.approx(expected.high, abs=0.01)


def test_questions_about_one_image_widen_the_interval_like_fewer_questions():
    rng = np.random.default_rng(3)
    per_image = rng.integers(0, 2, 50).astype(float)
    copied = np.repeat(per_image, 6)
    images = [f"i{n // 6}" for n in range(len(copied))]
    clustered, single = (
        stats.mean_interval(outcomes(copied, images)),
        stats.mean_interval(outcomes(per_image)),
    )
    naive = stats.mean_interval(outcomes(copied))
    assert (clustered.low, clustered.high) == pytest.approx((single.low, single.high))
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)


def test_tasks_count_equally_whatever_their_size():
    both = outcomes([1.0] * 9) | outcomes([0.0], images=["x"], task="u")
    assert stats.task_means(both) == {"t": 1.0, "u": 0.0}
    estimate = stats.mean_interval(both)
    assert estimate.value == 0.5
    assert not math.isnan(estimate.low)  # resamples without an image of "u" are no NaN


def test_degenerate_accuracies():
    empty = stats.mean_interval({})
    assert math.isnan(empty.value)
    assert math.isnan(empty.low)
    one = stats.mean_interval(outcomes([1, 0], images=["a", "a"]))
    assert one.value == 0.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    equal = stats.mean_interval(outcomes([1, 1, 1]))
    assert (equal.low, equal.value, equal.high) == (1, 1, 1)


def test_paired_difference_agrees_with_scipys_sign_flip_test():
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 2, (2, 120)).astype(float)
    a[:15] = 1
    found = stats.paired_difference(outcomes(a), outcomes(b))
    expected = scipy_stats.permutation_test(
        (a - b,),
        np.mean,
        permutation_type="samples",
        n_resamples=9999,
        vectorized=True,
        rng=np.random.default_rng(6),
    )
    assert found.value == pytest.approx((a - b).mean())
    assert found.p == pytest.approx(expected.pvalue, abs=0.02)
    assert found.low < found.value < found.high


def test_few_images_are_tested_exactly():
    found = stats.paired_difference(outcomes([1, 1, 1, 1, 0]), outcomes([0, 0, 0, 0, 0]))
    assert found.p == pytest.approx(2 / 2**4)
    assert not found.significant
    six = stats.paired_difference(outcomes([1] * 6), outcomes([0] * 6))
    assert six.p == pytest.approx(2 / 2**6)
    assert six.significant


def test_one_image_with_many_questions_proves_nothing():
    images = ["a"] * 40
    found = stats.paired_difference(outcomes([1] * 40, images), outcomes([0] * 40, images))
    assert found.p == 1
    assert math.isnan(found.low)
    assert not found.significant


def test_equal_answers_are_not_significant_and_only_common_items_are_paired():
    same = stats.paired_difference(outcomes([1, 0, 1]), outcomes([1, 0, 1]))
    assert (same.value, same.p, same.significant) == (0, 1, False)
    shorter = stats.paired_difference(outcomes([1, 0]), outcomes([0, 0, 1]))
    assert shorter.value == 0.5
    nothing = stats.paired_difference(outcomes([1], task="t"), outcomes([1], task="u"))
    assert math.isnan(nothing.value)
    assert not nothing.significant


def test_a_true_difference_of_many_images_is_significant_in_either_direction():
    rng = np.random.default_rng(9)
    base = (rng.random(400) < 0.5).astype(float)
    better = np.maximum(base, rng.random(400) < 0.2)
    up = stats.paired_difference(outcomes(better), outcomes(base))
    down = stats.paired_difference(outcomes(base), outcomes(better))
    assert up.significant
    assert up.low > 0
    assert down.p == up.p
    assert down.value == -up.value


def test_the_p_value_is_uniform_without_a_difference():
    rng = np.random.default_rng(11)
    draws = rng.normal(size=(200, 30))
    p = [stats.paired_difference(outcomes(d), outcomes(0 * d)).p for d in draws]
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.01


def test_median_and_spread():
    found = stats.median_spread([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (found.low, found.value, found.high) == (2, 3, 4)
    assert math.isnan(stats.median_spread([]).value)
    spread = stats.mean_spread([1.0, 3.0])
    assert (spread.value, spread.high - spread.value) == (2, pytest.approx(math.sqrt(2)))
    assert math.isnan(stats.mean_spread([1.0]).low)


def test_ratios_pair_rounds_so_that_a_slow_round_cancels():
    theirs = [1.0, 10.0, 1.0, 5.0, 1.0]
    found = stats.round_ratio([t * 0.5 for t in theirs], theirs)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)
    one = stats.round_ratio([1.0], [2.0])
    assert one.value == 0.5
    assert math.isnan(one.low)
    assert math.isnan(stats.round_ratio([], []).value)
    with pytest.raises(ValueError, match="2 rounds are compared with 1"):
        stats.round_ratio([1.0, 1.0], [1.0])


def test_equal_data_give_equal_numbers():
    scores = np.random.default_rng(0).random(50)
    first = stats.mean_interval(outcomes(scores))
    stats._weights.cache_clear()
    assert stats.mean_interval(outcomes(scores)) == first
