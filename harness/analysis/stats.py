"""Intervals, paired differences and timing summaries, derived from raw outcomes.

Questions about one image are not independent, so every interval and test resamples or flips whole
images. All randomness has a fixed seed: equal records give equal tables. Knows nothing of records.

**The paired test.** A difference is the sum of what each image adds to it. Were there none, every
image's part could as well have the other sign; p is the share of flipped signs that give a sum as
large. The interval holds the differences that this test does not reject, by the same flips, so that
0 lies outside it exactly where p < 0.05. No search is needed: once a difference is taken off every
image, flipping some images leaves a sum as large exactly where the difference lies between the mean
of the flipped images and the mean of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, inf, nan

import numpy as np
from numpy.typing import NDArray

from harness.analysis.outcomes import Array, Outcomes, differences

RESAMPLES = 2000
FLIPS = 9999
SIGNIFICANCE = 0.05
_SEED = 20240
_EXACT = 15  # up to 2^15 different flips, all are counted instead of drawn
_BYTE_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)


@dataclass(frozen=True)
class Estimate:
    """A value and the bounds around it; NaN where the data say nothing."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference, the two-sided p of there being none, and the 95 % interval of that test.

    The bounds are NaN where no difference can be rejected: fewer than 6 images prove nothing.
    """

    p: float

    @property
    def significant(self) -> bool:
        return self.p < SIGNIFICANCE


NOTHING = Estimate(nan, nan, nan)


def task_means(outcomes: Outcomes) -> dict[str, float]:
    """Mean score of each task."""
    return {task: float(scores.values.mean()) for task, scores in outcomes.items()}


def mean_of(outcomes: Outcomes) -> float:
    """Mean of the task means; NaN without outcomes."""
    means = task_means(outcomes)
    return float(np.mean(list(means.values()))) if means else nan


def mean_interval(outcomes: Outcomes) -> Estimate:
    """Mean of the task means with its 95 % interval, resampling whole images over all tasks.

    With one image the interval is NaN; without any item the value is, too.
    """
    return _bootstrap(*_by_image(outcomes))


def paired_difference(ours: Outcomes, theirs: Outcomes) -> Difference:
    """Mean of the task means of `ours` - `theirs` over the items that both answered."""
    parts = _parts(ours, theirs)
    if not parts.size:
        return Difference(nan, nan, nan, nan)
    value, splits = float(parts[0].sum()), _splits(parts)
    p = _p(value, splits)
    return Difference(value, *_interval(value, splits, p), p)


def paired_p(ours: Outcomes, theirs: Outcomes) -> float:
    """The p of `paired_difference`, alone."""
    parts = _parts(ours, theirs)
    return _p(float(parts[0].sum()), _splits(parts)) if parts.size else nan


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for all of them being looked at, by Holm's step-down; NaN stays NaN."""
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return adjusted.tolist()


def _parts(ours: Outcomes, theirs: Outcomes) -> Array:
    """What each image adds to the difference, and its weight in it: float64 [2, images].

    The weights add up to 1.
    """
    sums, counts = _by_image(differences(ours, theirs))
    if not sums.size:
        return np.zeros((2, 0))
    means: Array = (np.stack([sums, counts]) / counts.sum(1, keepdims=True)).mean(1)
    return means


def _by_image(outcomes: Outcomes) -> tuple[Array, Array]:
    """Sums and counts of the values, both float64 [tasks, images]."""
    images = sorted({image for scores in outcomes.values() for image in scores.images})
    places = {image: place for place, image in enumerate(images)}
    sums, counts = np.zeros((2, len(outcomes), len(images)))
    for row, task in enumerate(sorted(outcomes)):
        scores = outcomes[task]
        place = [places[image] for image in scores.images]
        sums[row] = np.bincount(place, scores.values, len(images))
        counts[row] = np.bincount(place, minlength=len(images))
    return sums, counts


def _bootstrap(sums: Array, counts: Array) -> Estimate:
    if not sums.size:
        return NOTHING
    value = float((sums.sum(1) / counts.sum(1)).mean())
    if sums.shape[1] == 1:
        return Estimate(value, nan, nan)
    weights = _weights(sums.shape[1])
    different, which = np.unique(counts, axis=0, return_inverse=True)
    # einsum: equal on every machine, and no threads that would wait for a busy core
    drawn = np.einsum("ri,ti->rt", weights, different)[:, which]
    scored = np.einsum("ri,ti->rt", weights, sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(drawn > 0, scored / drawn, nan)
    low, high = np.quantile(_row_means(means), [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _row_means(values: Array) -> Array:
    """Means over the last axis without NaN: a resample may miss all images of a small task."""
    present = ~np.isnan(values)
    means: Array = np.where(present, values, 0).sum(1) / np.maximum(present.sum(1), 1)
    return means


@lru_cache(maxsize=4)
def _weights(images: int) -> Array:
    """How often each image is drawn in each resample: float64 [RESAMPLES, images]."""
    draws = np.random.default_rng(_SEED).integers(images, size=(RESAMPLES, images))
    flat = (draws + np.arange(RESAMPLES)[:, None] * images).ravel()
    counts = np.bincount(flat, minlength=RESAMPLES * images)
    return counts.reshape(RESAMPLES, images).astype(np.float64)


@dataclass(frozen=True)
class _Splits:
    """Choices of the images whose signs are flipped, float64 [splits]: what these add to the
    difference, their weight, and how often each split counts.
    """

    parts: Array
    weights: Array
    times: Array


def _splits(parts: Array) -> _Splits:
    """All, where they are few: of images with equal parts it only matters how many are flipped.
    Otherwise some that are drawn, and the one that flips nothing.
    """
    kinds, counts = np.unique(parts, axis=1, return_counts=True)
    if np.log2(counts + 1).sum() <= _EXACT:
        return _all_splits(kinds, counts)
    sums, weights = _drawn(parts)
    return _Splits(sums, weights, np.ones(1 + FLIPS))


def _all_splits(kinds: Array, counts: NDArray[np.int64]) -> _Splits:
    flipped, times = np.zeros((2, 1)), np.ones(1)
    for kind, count in zip(kinds.T, counts.tolist(), strict=True):
        chosen = np.arange(count + 1)
        chances = np.array([comb(count, k) / 2**count for k in range(count + 1)])
        flipped = (flipped[:, :, None] + kind[:, None, None] * chosen).reshape(2, -1)
        times = (times[:, None] * chances).ravel()
    return _Splits(flipped[0], flipped[1], times)


def _drawn(parts: Array) -> Array:
    """What the flipped images sum up to, float64 [2, 1 + FLIPS]; the first flips nothing."""
    padded = np.pad(parts, ((0, 0), (0, -parts.shape[1] % 8))).reshape(2, -1, 8)
    subsets = np.einsum("sb,pwb->pws", _BYTE_BITS, padded)  # what a byte of flips adds up to
    flipped = np.zeros((2, 1 + FLIPS))
    for byte, flips in enumerate(_flips(padded.shape[1])):
        flipped[:, 1:] += subsets[:, byte].take(flips, axis=1)
    return flipped


def _p(value: float, splits: _Splits) -> float:
    extreme = np.abs(value - 2 * splits.parts) >= abs(value) - 1e-12
    return float(splits.times[extreme].sum() / splits.times.sum())


def _interval(value: float, splits: _Splits, p: float) -> tuple[float, float]:
    """The smallest and the largest difference that is not rejected."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack(
            [splits.parts / splits.weights, (value - splits.parts) / (1 - splits.weights)]
        )
    # whatever the difference is, flipping all images or none leaves a sum as large
    means[:, np.minimum(splits.weights, 1 - splits.weights) < 1e-12] = [[-inf], [inf]]
    low, high = _reached(means.min(0), splits.times), -_reached(-means.max(0), splits.times)
    if not p < SIGNIFICANCE:  # a bound at 0 may be off by its rounding
        low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if np.isfinite([low, high]).all() else (nan, nan)


def _reached(values: Array, times: Array) -> float:
    """The smallest value such that values up to it are a share of `SIGNIFICANCE` of all."""
    order = np.argsort(values, kind="stable")
    counted = times[order].cumsum()
    return float(values[order[np.searchsorted(counted, SIGNIFICANCE * counted[-1])]])


@lru_cache(maxsize=8)
def _flips(width: int) -> NDArray[np.uint8]:
    """Which signs are flipped, eight a byte: uint8 [width, FLIPS]."""
    rng = np.random.default_rng(_SEED)
    return np.ascontiguousarray(rng.integers(256, size=(FLIPS, width), dtype=np.uint8).T)


def median_spread(samples: Sequence[float]) -> Estimate:
    """Median with the quartiles as its bounds."""
    if not len(samples):
        return NOTHING
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return Estimate(float(middle), float(low), float(high))


def mean_spread(values: Sequence[float]) -> Estimate:
    """Mean, and one sample standard deviation to either side; NaN bounds for a single value."""
    if not len(values):
        return NOTHING
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else nan
    return Estimate(mean, mean - spread, mean + spread)


def round_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Median of the per-round ratios `ours` / `theirs` with its 95 % bootstrap interval.

    Both run over the same rounds: what slows a whole round down cancels. One round has no
    interval. Raises ValueError when the lengths differ.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds are compared with {len(theirs)}")
    if not len(ours) or min(theirs) <= 0:
        return NOTHING
    ratios = np.asarray(ours, dtype=np.float64) / np.asarray(theirs, dtype=np.float64)
    value = float(np.median(ratios))
    if len(ratios) == 1:
        return Estimate(value, nan, nan)
    draws = np.random.default_rng(_SEED).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    return Estimate(value, float(low), float(high))
