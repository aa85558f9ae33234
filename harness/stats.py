"""Intervals, paired differences and timing summaries, derived from raw outcomes.

Questions about one image are not independent, so every interval and test resamples or flips whole
images. All randomness has a fixed seed: equal records give equal tables. Knows nothing of records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nan

import numpy as np
from numpy.typing import NDArray

from harness.outcomes import Array, Outcomes, differences

RESAMPLES = 2000
FLIPS = 9999
SIGNIFICANCE = 0.05
_SEED = 20240
_EXACT = 12  # up to this many images, all 2^n sign flips are counted instead of drawn
_BYTE_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)


@dataclass(frozen=True)
class Estimate:
    """A value and the bounds around it; NaN where the data say nothing."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference with its 95 % interval and the two-sided p of no difference."""

    p: float

    @property
    def significant(self) -> bool:
        return self.p < SIGNIFICANCE


NOTHING = Estimate(nan, nan, nan)


def task_means(outcomes: Outcomes) -> dict[str, float]:
    """Mean score of each task."""
    return {task: float(scores.values.mean()) for task, scores in outcomes.items()}


def mean_interval(outcomes: Outcomes) -> Estimate:
    """Mean of the task means with its 95 % interval, resampling whole images over all tasks.

    With one image the interval is NaN; without any item the value is, too.
    """
    return _bootstrap(*_by_image(outcomes))


def paired_difference(ours: Outcomes, theirs: Outcomes) -> Difference:
    """Mean of the task means of `ours` - `theirs` over the items that both answered.

    The interval resamples images; p flips the sign of all of an image's differences at once.
    """
    sums, counts = _by_image(differences(ours, theirs))
    estimate = _bootstrap(sums, counts)
    return Difference(estimate.value, estimate.low, estimate.high, _sign_flip(sums, counts))


def paired_p(ours: Outcomes, theirs: Outcomes) -> float:
    """The p of `paired_difference`, alone."""
    return _sign_flip(*_by_image(differences(ours, theirs)))


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
    return np.where(present, values, 0).sum(1) / np.maximum(present.sum(1), 1)


@lru_cache(maxsize=4)
def _weights(images: int) -> Array:
    """How often each image is drawn in each resample: float64 [RESAMPLES, images]."""
    draws = np.random.default_rng(_SEED).integers(images, size=(RESAMPLES, images))
    flat = (draws + np.arange(RESAMPLES)[:, None] * images).ravel()
    counts = np.bincount(flat, minlength=RESAMPLES * images)
    return counts.reshape(RESAMPLES, images).astype(np.float64)


def _sign_flip(sums: Array, counts: Array) -> float:
    """Two-sided p of the summed image contributions being symmetric around zero."""
    if not sums.size:
        return nan
    parts = (sums / counts.sum(1, keepdims=True)).mean(0)
    parts = parts[np.abs(parts) > 1e-15]
    observed = abs(parts.sum()) - 1e-12
    if len(parts) <= _EXACT:
        index = np.arange(2 ** len(parts))[:, None]
        bits = (index >> np.arange(len(parts))) & 1
        return float((np.abs((1 - 2.0 * bits) @ parts) >= observed).mean())
    parts = np.pad(parts, (0, -len(parts) % 8)).reshape(-1, 8)
    subsets = np.einsum("sb,wb->sw", _BYTE_BITS, parts)  # what a byte of flips adds up to
    flipped = sum(subsets[:, byte][flips] for byte, flips in enumerate(_flips(len(parts))))
    extreme = np.abs(parts.sum() - 2 * flipped) >= observed
    return float((1 + extreme.sum()) / (1 + FLIPS))


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
