"""The tests and intervals of the gate: scipy's and statsmodels', with their inputs checked."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap, permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from harness.stats import Estimate

CONFIDENCE = 0.95
RESAMPLES = 1999
FLIPS = 2**15
_SEED = 20240  # equal records give equal verdicts

Array = NDArray[np.float64]


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test, from the pairs that changed."""
    return float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of independent differences being symmetric around zero, by flipping their signs.

    Exact where all flips can be counted; zeros change nothing and are left out.
    """
    parts = np.asarray([d for d in differences if d], dtype=np.float64)
    if len(parts) < 2:
        return 1.0  # both signs of one difference are as extreme
    found = permutation_test(
        (parts,),
        np.sum,
        permutation_type="samples",
        n_resamples=FLIPS,
        batch=1024,
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given."""
    return multipletests(p_values, method="holm")[1].tolist() if len(p_values) else []


def sum_interval(parts: Sequence[float]) -> Estimate:
    """The sum of independent parts with its bootstrap interval; one part has no interval."""
    values = np.asarray(parts, dtype=np.float64)
    total = float(values.sum())
    if len(values) < 2:
        return Estimate(total, nan, nan)
    return Estimate(total, *_bootstrapped((values,), np.sum))


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
