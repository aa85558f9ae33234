"""The page's first lines: which method leads at which budget, how surely, and at which cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

from harness.analysis.blocks import Block, Line
from harness.analysis.emphasis import Emphasis, emphasised
from harness.analysis.rows import Row, flops_share
from harness.analysis.stats import NOTHING, Estimate, mean_interval, mean_of, paired_difference
from harness.analysis.studies import Study
from harness.tables import numbers

Number = tuple[str, str]
"""A number as it is written, and its interval; empty where there is none."""


@dataclass(frozen=True)
class Best:
    """A budget's leader, and how the others stand to it."""

    budget: str
    label: str
    others: str
    score: Number
    difference: Number
    sure: bool  # that it differs from unpruned
    flops: str
    speedup: Number


def answer(study: Study) -> list[Best]:
    """Unpruned, then the leader of each budget, from large budgets to small."""
    whole = (line for b in study.blocks for line in b.lines if line.row.asked.is_unpruned)
    upper = next(whole, None)
    found = [_best(study, block, upper) for block in study.blocks]
    return [best for best in found if best is not None]


def leader(block: Block, column: str) -> tuple[Line | None, list[Line], list[Line]]:
    """Of a block's measured lines the best one, those not significantly worse, and the others.

    As the table's bold print has it; each list from the best on.
    """
    bold = emphasised([line.values for line in block.lines], Emphasis.SIGNIFICANT)
    near = {i for i, shown in bold if shown == column}
    ranked = sorted(
        (i for i, line in enumerate(block.lines) if line.values.get(column)),
        key=lambda i: -mean_of(block.lines[i].values[column]),
    )
    lead = block.lines[ranked[0]] if ranked else None
    alike = [block.lines[i] for i in ranked[1:] if i in near]
    return lead, alike, [block.lines[i] for i in ranked[1:] if i not in near]


def _best(study: Study, block: Block, upper: Line | None) -> Best | None:
    lead, alike, worse = leader(block, study.overall)
    if lead is None:
        return None
    row, scores = lead.row, lead.values[study.overall]
    whole = upper.values.get(study.overall) if upper and upper is not lead else None
    lost = paired_difference(scores, whole) if whole else None
    return Best(
        row.asked.budget_label or f"{row.tokens:.0f}",
        row.label,
        _others(alike, worse, study.overall),
        _number(mean_interval(scores)),
        _number(lost, sign=True) if lost else ("", ""),
        bool(lost and lost.significant),
        _flops(row, upper.row if upper else None),
        _speedup(study, row),
    )


def _others(alike: Sequence[Line], worse: Sequence[Line], column: str) -> str:
    near = ", ".join(f"{line.row.label} {mean_of(line.values[column]):.1f}" for line in alike)
    if near:
        return f"not significantly ahead of {near}"
    if len(worse) == 1:
        return f"significantly ahead of {worse[0].row.label}"
    return f"significantly ahead of all {len(worse)} others" if worse else ""


def _flops(row: Row, upper: Row | None) -> str:
    share = flops_share(row, upper) if upper else nan
    return "" if isnan(share) else f"{100 * share:.0f} %"


def _speedup(study: Study, row: Row) -> Number:
    timed = (t.speedup for t in study.timings if t.asked == row.asked)
    value, interval = _number(next(timed, NOTHING), decimals=2)
    return f"{value}×" if value else "", interval if row.asked.budget else ""


def _number(found: Estimate, sign: bool = False, decimals: int = 1) -> Number:
    value, low, high = numbers.estimate(found, decimals, sign)
    return value.replace("-", "−"), f"{low} to {high}".replace("-", "−") if low else ""
