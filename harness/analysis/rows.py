"""What the accuracy records say of each method and budget, before anything is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import nan
from statistics import fmean
from typing import Any

from harness.analysis import stats
from harness.analysis.outcomes import Outcomes, averaged
from harness.analysis.task_scores import Column, columns_of, without_interval
from harness.errors import sentence
from harness.records.cell import Cell, infeasible
from harness.records.file import Record
from harness.records.ledger import mean_cache_bytes, mean_entering, mean_prefill_flops


@dataclass(frozen=True)
class Row:
    """A method at a budget; several seeds of it are one row, scores averaged question by question.

    Empty where the cell failed or broke its promise; `note` says so. `outcomes` are of each task's
    first metric, `others` of further ones, by column; scores are as papers print them. `flops` and
    `cache_bytes` are means over questions by task, `questions` their numbers.
    """

    label: str
    budget: int | None
    method: str = ""  # name and settings, as a cell writes them
    venue: str = ""
    matched: bool = False  # the budget is one of FLOPs
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


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Unpruned first, then budgets from large to small; by label, controls last."""
    columns = columns_of(records)
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(_method(record), []).append(record)
    ordered = sorted(groups.values(), key=lambda group: Cell.parse(group[0]["cell"]).order)
    return [_row(group, columns) for group in ordered]


def _method(record: Record) -> tuple[Any, ...]:
    """What is equal in the records of one row; one text may mean settings with other defaults."""
    cell = Cell.parse(record["cell"])
    settings = sorted(record["identity"]["settings"].items())
    return cell.method.text, cell.budget, cell.matched, str(settings)


def _row(records: Sequence[Record], columns: Sequence[Column]) -> Row:
    tasks = len({column.task for column in columns})
    cell = Cell.parse(records[0]["cell"])
    seeds = sorted({record["identity"]["seed"] for record in records})
    label = _label(records[0], cell, len(seeds))
    venue = records[0]["method"].get("venue", "")
    head = (label, cell.budget, cell.method.text, venue, cell.matched is not None)
    if broken := next((r["reason"] for r in records if r.get("broken")), None):
        return Row(*head, f"FAILED: {broken}", failed=True)
    if any(record["status"] == "infeasible" for record in records):
        return Row(*head, infeasible(records[0].get("feasible")))
    held = [record for record in records if record["status"] == "ok"]
    first, others = ([c for c in columns if c.first is wanted] for wanted in (True, False))
    by_seed = [[r for r in held if r["identity"]["seed"] == seed] for seed in seeds]
    outcomes = [_outcomes(own, first) for own in by_seed]
    return Row(
        *head,
        _note(records, tasks * len(seeds)),
        any(record["status"] == "failed" for record in records),
        len(held) == tasks * len(seeds),
        averaged(outcomes),
        averaged([_outcomes(own, others) for own in by_seed]),
        {record["identity"]["task"]: len(record["samples"]) for record in held},
        tuple(fmean(stats.task_means(own).values()) for own in outcomes if own),
        fmean(mean_entering(record["ledger"]) for record in held) if held else nan,
        _by_task(held, lambda r: mean_prefill_flops(r["ledger"], r["shape"])),
        _by_task(held, lambda r: mean_cache_bytes(r["ledger"], r["shape"], _dtype(r))),
    )


def _label(record: Record, cell: Cell, seeds: int) -> str:
    settings = " ".join(f"{name}={value}" for name, value in cell.method.settings)
    over = f"({seeds} seeds)" if seeds > 1 else ""
    return " ".join(part for part in (record["method"]["label"], settings, over) if part)


def _note(records: Sequence[Record], expected: int) -> str:
    failed = [r for r in records if r["status"] == "failed"]
    if failed:
        reason = sentence(failed[0]["reason"])
        return f"FAILED in {failed[0]['identity']['task']}: {reason}"
    missing = f"{len(records)} of {expected} runs" if len(records) < expected else ""
    return "; ".join(dict.fromkeys(filter(None, [missing, *map(without_interval, records)])))


def _outcomes(records: Sequence[Record], columns: Sequence[Column]) -> Outcomes:
    by_task = {record["identity"]["task"]: record for record in records}
    return {c.name: c.scores(by_task[c.task]) for c in columns if c.task in by_task}


def _by_task(records: Sequence[Record], value: Callable[[Record], float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record["identity"]["task"], []).append(value(record))
    return {task: fmean(values) for task, values in found.items()}


def _dtype(record: Record) -> str:
    return str(record["identity"]["dtype"])
