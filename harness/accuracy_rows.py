"""What the accuracy records say of each method and budget, before anything is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from statistics import fmean
from typing import Any

from harness import numbers, stats
from harness.cells import Cell
from harness.ledger import mean_cache_bytes, mean_entering, mean_prefill_flops
from harness.outcomes import Outcomes, Scores, averaged
from harness.record import Record


@dataclass(frozen=True)
class Row:
    """A method at a budget; several seeds of it are one row, scores averaged question by question.

    Empty where the cell failed or broke its promise; `note` says so. `flops` and `cache_bytes` are
    means over questions by task; scores are in percent where the task's scores lie in [0, 1].
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
    seed_means: tuple[float, ...] = ()
    tokens: float = nan
    flops: dict[str, float] = field(default_factory=dict)
    cache_bytes: dict[str, float] = field(default_factory=dict)


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Unpruned first, then budgets from large to small; by label, controls last."""
    tasks = {record["identity"]["task"] for record in records}
    scales = {task: _scale(r for r in records if r["identity"]["task"] == task) for task in tasks}
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(_method(record), []).append(record)
    ordered = sorted(groups.values(), key=lambda group: Cell.parse(group[0]["cell"]).order)
    return [_row(group, len(tasks), scales) for group in ordered]


def _method(record: Record) -> tuple[Any, ...]:
    """What is equal in the records of one row; one text may mean settings with other defaults."""
    cell = Cell.parse(record["cell"])
    settings = sorted(record["identity"]["settings"].items())
    return cell.method.text, cell.budget, cell.matched, str(settings)


def _scale(records: Iterable[Record]) -> float:
    scores = [sample["score"] for record in records for sample in record.get("samples", ())]
    return 100.0 if all(0 <= score <= 1 for score in scores) else 1.0


def _row(records: Sequence[Record], tasks: int, scales: Mapping[str, float]) -> Row:
    cell = Cell.parse(records[0]["cell"])
    seeds = sorted({record["identity"]["seed"] for record in records})
    label = _label(records[0], cell, len(seeds))
    venue = records[0]["method"].get("venue", "")
    head = (label, cell.budget, cell.method.text, venue, cell.matched is not None)
    if broken := next((r["reason"] for r in records if r.get("broken")), None):
        return Row(*head, f"FAILED: {broken}", failed=True)
    if any(record["status"] == "infeasible" for record in records):
        return Row(*head, numbers.infeasible(records[0].get("feasible")))
    held = [record for record in records if record["status"] == "ok"]
    by_seed = [_outcomes([r for r in held if r["identity"]["seed"] == s], scales) for s in seeds]
    return Row(
        *head,
        _note(records, tasks * len(seeds)),
        any(record["status"] == "failed" for record in records),
        len(held) == tasks * len(seeds),
        averaged(by_seed),
        tuple(fmean(stats.task_means(outcomes).values()) for outcomes in by_seed if outcomes),
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
        reason = numbers.sentence(failed[0]["reason"])
        return f"FAILED in {failed[0]['identity']['task']}: {reason}"
    return f"{len(records)} of {expected} runs" if len(records) < expected else ""


def _outcomes(records: Sequence[Record], scales: Mapping[str, float]) -> Outcomes:
    return {record["identity"]["task"]: _scores(record, scales) for record in records}


def _scores(record: Record, scales: Mapping[str, float]) -> Scores:
    rows = [(str(s["item"]), str(s["image"]), s["score"]) for s in record["samples"]]
    return Scores.of(rows).scaled(scales[record["identity"]["task"]])


def _by_task(records: Sequence[Record], value: Callable[[Record], float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record["identity"]["task"], []).append(value(record))
    return {task: fmean(values) for task, values in found.items()}


def _dtype(record: Record) -> str:
    return str(record["identity"]["dtype"])
