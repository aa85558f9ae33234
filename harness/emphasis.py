"""Which numbers of a block of a table may be called best: paired tests on the same questions.

Knows nothing of records or of how a table is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np

from harness.options import Emphasis
from harness.outcomes import Outcomes
from harness.stats import SIGNIFICANCE, paired_p, task_means

Place = tuple[int, str]


def mean_of(outcomes: Outcomes) -> float:
    """Mean of the task means; NaN without outcomes."""
    means = task_means(outcomes)
    return float(np.mean(list(means.values()))) if means else nan


def emphasised(rows: Sequence[Mapping[str, Outcomes]], emphasis: Emphasis) -> set[Place]:
    """(row, column) of what is bold in one block; `rows` hold what each column's number is of.

    The best number of a column, and with `SIGNIFICANT` whatever is not significantly worse than
    it: all comparisons with a column's best, of all columns, are corrected together by Holm.
    """
    if emphasis is Emphasis.NONE:
        return set()
    means = {
        (i, column): mean_of(outcomes)
        for i, row in enumerate(rows)
        for column, outcomes in row.items()
        if outcomes
    }
    best: dict[str, int] = {}
    for (i, column), mean in means.items():
        if column not in best or mean > means[best[column], column]:
            best[column] = i
    if emphasis is Emphasis.BEST:
        return {(i, c) for (i, c), mean in means.items() if mean == means[best[c], c]}
    places = list(means)
    p = holm([paired_p(rows[i][c], rows[best[c]][c]) if i != best[c] else nan for i, c in places])
    return {place for place, value in zip(places, p, strict=True) if not value < SIGNIFICANCE}


def no_better(rows: Sequence[Outcomes], control: Outcomes) -> set[int]:
    """Rows that are not significantly better than the control, corrected over the rows by Holm."""
    p = holm([paired_p(row, control) for row in rows])
    base = mean_of(control)
    return {
        i
        for i, (row, value) in enumerate(zip(rows, p, strict=True))
        if not (value < SIGNIFICANCE and mean_of(row) > base)
    }


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for all of them being looked at, by Holm's step-down; NaN stays NaN."""
    # a table shall be there within a second, and statsmodels, which has this, imports in two
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return adjusted.tolist()
