"""Which numbers of a block of a table may be called best: paired tests on the same questions.

Knows nothing of records or of how a table is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import nan

from harness.analysis.outcomes import Outcomes
from harness.analysis.stats import SIGNIFICANCE, holm, mean_of, paired_p

Place = tuple[int, str]


class Emphasis(StrEnum):
    """What is printed bold."""

    NONE = "none"
    BEST = "best"
    SIGNIFICANT = "significant"


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
