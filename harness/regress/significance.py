"""The intervals of ratios and rates: scipy's, with their inputs checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

from harness.analysis.stats import Estimate

CONFIDENCE = 0.95
RESAMPLES = 1999
_SEED = 20240  # equal records give equal verdicts

Array = NDArray[np.float64]


def change_of_medians(after: Sequence[Array], before: Sequence[Array]) -> Estimate:
    """Relative change of a ratio from `before` to `after`, by a bootstrap over rounds.

    Each side holds one array, whose median is the ratio, or two, whose medians' quotient it is.
    """
    value = float(_change(*after, *before, axis=-1))
    return Estimate(value, *_bootstrapped((*after, *before), _change))


def _change(*samples: Array, axis: int) -> Array:
    medians = [np.median(sample, axis=axis) for sample in samples]
    after, before = medians[: len(medians) // 2], medians[len(medians) // 2 :]
    return _quotient(after) / _quotient(before) - 1


def _quotient(medians: Sequence[Array]) -> Array:
    return medians[0] if len(medians) == 1 else medians[0] / medians[1]


def _bootstrapped(samples: Sequence[Array], statistic: object) -> tuple[float, float]:
    interval = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def rate_bound(events: int, trials: int) -> float:
    """Upper end of the exact one-sided 95 % interval of a rate (Clopper and Pearson)."""
    exact = binomtest(events, trials, alternative="less")
    return float(exact.proportion_ci(CONFIDENCE, method="exact").high)
