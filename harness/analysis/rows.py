"""What the accuracy records say of each method and budget, before anything is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import nan
from statistics import fmean

from harness.analysis import stats
from harness.analysis.outcomes import Outcomes, averaged
from harness.analysis.task_scores import Column, columns_of, without_interval
from harness.errors import sentence
from harness.records.cell import Asked
from harness.records.ledger import (
    mean_cache_bytes,
    mean_entering,
    mean_prefill_flops,
    range_entering,
)
from harness.records.record import AccuracyRecord

_ROUNDING = 2
"""Tokens by which two samples of one number of tokens may differ, each within 1 of its budget."""


@dataclass(frozen=True)
class Row:
    """A method at a budget; several seeds of it are one row, scores averaged question by question.

    Empty where the cell failed or broke its promise; `note` says so. `outcomes` are of each task's
    first metric, `others` of further ones, by column; scores are as papers print them. `flops` and
    `cache_bytes` are means over questions by task, `questions` their numbers.
    """

    label: str
    asked: Asked
    venue: str = ""
    note: str = ""
    failed: bool = False
    complete: bool = False  # every task of the table, for every seed
    outcomes: Outcomes = field(default_factory=dict)
    others: Outcomes = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)
    seed_means: tuple[float, ...] = ()
    tokens: float = nan
    flops: dict[str, float] = field(default_factory=dict)
    cache_bytes: dict[str, float] = field(default_factory=dict)
    unequal: tuple[float, float] | None = None  # fewest and most tokens of a sample, if they differ


def flops_share(row: Row, upper: Row) -> float:
    """Of the prefill's FLOPs of unpruned, over the tasks that both have; NaN without one."""
    shared = row.flops.keys() & upper.flops.keys()
    whole = sum(upper.flops[task] for task in shared)
    return sum(row.flops[task] for task in shared) / whole if whole else nan


def rows_of(records: Sequence[AccuracyRecord]) -> list[Row]:
    """Unpruned first, then budgets from large to small; by label, controls last."""
    columns = columns_of(records)
    groups: dict[tuple[object, ...], list[AccuracyRecord]] = {}
    for record in records:
        groups.setdefault(_method(record), []).append(record)
    ordered = sorted(groups.values(), key=lambda group: group[0].cell.order)
    return [_row(group, columns) for group in ordered]


def unpruned_of(rows: Sequence[Row]) -> Row | None:
    """The row that all others are compared with, where it has every task of the table."""
    return next((row for row in rows if row.asked.is_unpruned and row.complete), None)


def _method(record: AccuracyRecord) -> tuple[object, ...]:
    """What is equal in the records of one row; one text may mean settings with other defaults."""
    return record.cell.asked, record.cell.matched, str(sorted(record.identity.settings.items()))


def _row(records: Sequence[AccuracyRecord], columns: Sequence[Column]) -> Row:
    tasks = len({column.task for column in columns})
    first_of = records[0]
    seeds = sorted({record.cell.seed for record in records})
    over = f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
    head = (first_of.label + over, first_of.cell.asked, first_of.method.venue)
    if broken := next((record.reason for record in records if record.broken), None):
        return Row(*head, f"FAILED: {broken}", failed=True)
    if not_met := next((record for record in records if record.status == "infeasible"), None):
        return Row(*head, not_met.unmet)
    held = [record for record in records if record.is_ok]
    first, others = ([c for c in columns if c.first is wanted] for wanted in (True, False))
    by_seed = [[record for record in held if record.cell.seed == seed] for seed in seeds]
    outcomes = [_outcomes(own, first) for own in by_seed]
    return Row(
        *head,
        _note(records, tasks * len(seeds)),
        any(record.status == "failed" for record in records),
        len(held) == tasks * len(seeds),
        averaged(outcomes),
        averaged([_outcomes(own, others) for own in by_seed]),
        {record.task: len(record.samples) for record in held},
        tuple(fmean(stats.task_means(own).values()) for own in outcomes if own),
        fmean(mean_entering(record.ledger) for record in held) if held else nan,
        _by_task(held, lambda r: mean_prefill_flops(r.ledger, r.shape)),
        _by_task(held, lambda r: mean_cache_bytes(r.ledger, r.shape, r.identity.dtype)),
        _unequal_samples(held),
    )


def _unequal_samples(held: Sequence[AccuracyRecord]) -> tuple[float, float] | None:
    ranges = [range_entering(record.ledger) for record in held]
    low = min((least for least, _ in ranges), default=0.0)
    high = max((most for _, most in ranges), default=0.0)
    return (low, high) if high - low > _ROUNDING else None


def _note(records: Sequence[AccuracyRecord], expected: int) -> str:
    failed = next((record for record in records if record.status == "failed"), None)
    if failed:
        return f"FAILED in {failed.task}: {sentence(failed.reason or '')}"
    missing = f"{len(records)} of {expected} runs" if len(records) < expected else ""
    return "; ".join(dict.fromkeys(filter(None, [missing, *map(without_interval, records)])))


def _outcomes(records: Sequence[AccuracyRecord], columns: Sequence[Column]) -> Outcomes:
    by_task = {record.task: record for record in records}
    return {c.name: c.scores(by_task[c.task]) for c in columns if c.task in by_task}


def _by_task(
    records: Sequence[AccuracyRecord], value: Callable[[AccuracyRecord], float]
) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record.task, []).append(value(record))
    return {task: fmean(values) for task, values in found.items()}
