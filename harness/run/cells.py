"""The work of a comparison, cell by cell: reused where it is known, measured and kept where not.

Cells are independent: one that fails becomes a record of its failure, and the others go on. Where
unpruned fails, or what pruning itself is made of, no other cell could be right: none is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean
from typing import Any, Protocol

from harness.analysis.task_scores import columns_of
from harness.errors import BadInput, ScoringError, sentence
from harness.records.cell import Cell, infeasible
from harness.records.file import SCHEMA, unwritable
from harness.records.provenance import now
from harness.records.record import AccuracyRecord, EfficiencyRecord
from harness.records.store import Store
from harness.run.progress import Progress
from harness.run.request import Feasible

Identity = Mapping[str, Any]
Measured = Mapping[str, Any]


class Measure(Protocol):
    """`harness.efficiency.instrument.measure` for a loaded model; `on_step` as there."""

    def __call__(
        self, cells: Sequence[Cell], *, on_step: Callable[[str, int, int], None]
    ) -> Measured: ...


class AccuracyRunner(Protocol):
    """`harness.accuracy.instrument.Accuracy`, or a stand-in."""

    def task_version(self, task: str) -> str: ...
    def items(self, task: str) -> int: ...
    def rehearse(self, task: str) -> None: ...
    def run(
        self,
        cell: Cell,
        task: str,
        on_item: Callable[[float | None], None],
        earlier: Measured | None = None,
    ) -> dict[str, Any]: ...


@dataclass
class Work:
    """Cells to compare and what all their records share.

    `infeasible`: cells that cannot be, with the budgets that can; `identity`: model, digest, dtype,
    attention, device, batch size, code and versions; `provenance` as of the start; `stopped`: why
    no further cell is run.
    """

    cells: Sequence[Cell]
    infeasible: Mapping[Cell, Feasible]
    identity: Identity
    provenance: Mapping[str, Any]
    store: Store
    progress: Progress
    stopped: str | None = field(default=None, init=False)

    def accuracy(
        self, runner: AccuracyRunner, tasks: Sequence[str], limit: int | None
    ) -> list[AccuracyRecord]:
        """One record a cell and task, in order. Raises BadInput when one cannot be written."""
        versions = {task: runner.task_version(task) for task in tasks}
        tasks_of = [{"task": t, "task_version": v, "limit": limit} for t, v in versions.items()]
        wanted = [
            (cell, {**cell.identity(), **task, **self.identity})
            for cell in self.cells
            for task in tasks_of
        ]
        found = [self.store.find(identity) for _, identity in wanted]
        if reused := sum(known is not None for known in found):
            where = self.store.directory
            self.progress.say(f"reused {reused} of {len(found)} accuracy records from {where}")
        pairs = list(zip(wanted, found, strict=True))
        for task in tasks:
            if any(known is None and i["task"] == task for (_, i), known in pairs):
                runner.rehearse(task)
        runs = sum(known is None and cell not in self.infeasible for (cell, _), known in pairs)
        numbers = count(1)
        return [
            known or self._answered(cell, identity, runner, numbers, runs)
            for (cell, identity), known in pairs
        ]

    def _answered(
        self,
        cell: Cell,
        identity: Identity,
        runner: AccuracyRunner,
        numbers: Iterator[int],
        runs: int,
    ) -> AccuracyRecord:
        """The kept record of one cell on one task, whatever came of it."""
        if cell in self.infeasible:
            return self._keep_accuracy(cell, identity, _infeasible(self.infeasible[cell]))
        earlier = self.store.answered(identity)
        if self.stopped:
            return earlier or self._keep_accuracy(cell, identity, _failed(self.stopped))
        self.progress.begin(f"{cell.text} {identity['task']}", next(numbers), runs)
        if earlier is not None:
            self.progress.say(f"{cell.text} {identity['task']}: answered before, scored again")
        measured = self._run(cell, identity["task"], runner, earlier and earlier.body)
        record = self._keep_accuracy(cell, identity, measured)
        self.progress.end(_summary(record))
        if cell.budget is None and record.status == "failed":
            self._stop(f"{cell.text} failed on {identity['task']}: {record.reason}")
        return record

    def _run(
        self, cell: Cell, task: str, runner: AccuracyRunner, earlier: Measured | None
    ) -> Measured:
        total, scores, done = runner.items(task), list[float](), count(1)

        def on_item(item_score: float | None) -> None:
            scores.extend(() if item_score is None else (item_score,))
            self.progress.advance(next(done), total, fmean(scores) if scores else None)

        try:
            return runner.run(cell, task, on_item, earlier)
        except BadInput:
            raise
        except ScoringError as error:  # what was answered is kept, for the same command to score
            return {**error.answered, **_failed(sentence(error))}
        except Exception as error:  # whatever it is, it becomes the cell's result and is shown
            self._stop_at_mechanism(error)
            return _failed(_reason(error))

    def _stop_at_mechanism(self, error: Exception) -> None:
        from methods.interface import MechanismError  # after the cell has run: it imports torch

        if isinstance(error, MechanismError):
            self._stop(sentence(error))

    def _stop(self, why: str) -> None:
        """Run no further cell; says so once."""
        if self.stopped is None:
            self.stopped = f"not run, because {why}"
            self.progress.say(f"the comparison stops, no other cell is run: {why}")

    def _keep_accuracy(self, cell: Cell, identity: Identity, measured: Measured) -> AccuracyRecord:
        outline = {
            "cell": cell.text,
            "status": "ok",
            "reason": None,
            "method": cell.method.described(),
        }
        return self._keep("accuracy", identity, {**outline, **_writable(measured)})

    def efficiency(self, measure: Measure, settings: Identity) -> EfficiencyRecord:
        """The record of one run of interleaved rounds over all cells, a method's first seed only.

        `settings` are the run's own part of its identity. Raises BadInput as `accuracy` does.
        """
        cells = list({(cell.method, cell.budget): cell for cell in reversed(self.cells)}.values())
        cells.reverse()
        identity = {**self.identity, **settings, "cells": [cell.text for cell in cells]}
        identity |= {"cell_identities": [cell.identity() for cell in cells]}
        if known := self.store.find(identity):
            self.progress.say(f"reused the efficiency record from {self.store.directory}")
            return known
        feasible = [cell for cell in cells if cell not in self.infeasible]
        if self.stopped:
            return self._keep_timed(cells, identity, _all_failed(feasible, self.stopped))
        self.progress.begin("efficiency", 1, 1)
        record = self._keep_timed(cells, identity, self._timed(feasible, measure))
        failed = [timed.reason for timed in record.cells if timed.status == "failed"]
        rounds = f"{settings['repeats']} rounds over {len(feasible)} cells"
        self.progress.end(f"FAILED: {failed[0]}" if failed else rounds)
        return record

    def _timed(self, cells: Sequence[Cell], measure: Measure) -> Measured:
        """What was measured; a run that breaks off is a failure of all its cells."""
        try:
            measured = measure(cells, on_step=self.progress.step)
        except BadInput:
            raise
        except Exception as error:  # as for accuracy
            self._stop(_reason(error))
            return _all_failed(cells, _reason(error))
        wrong = unwritable({**measured, "cells": ()})
        return _all_failed(cells, _not_kept(wrong)) if wrong else measured

    def _keep_timed(
        self, cells: Sequence[Cell], identity: Identity, measured: Measured
    ) -> EfficiencyRecord:
        results = {row["cell"]: _writable(row) for row in measured["cells"]}
        results |= {cell.text: _infeasible(bounds) for cell, bounds in self.infeasible.items()}
        ordered = [{**_row(cell), **results[cell.text]} for cell in cells]
        return self._keep("efficiency", identity, {**measured, "cells": ordered})

    def _keep(self, kind: str, identity: Identity, content: Measured) -> Any:
        provenance = {**self.provenance, "created": now()}
        outline = {"schema": SCHEMA, "kind": kind, "identity": dict(identity)}
        return self.store.keep({**outline, **content, "provenance": provenance})


def _row(cell: Cell) -> dict[str, Any]:
    """The outline of an efficiency record's cell."""
    return {
        "cell": cell.text,
        "method": cell.method.described(),
        "budget": cell.budget,
        "matched": cell.matched,
    }


def _failed(reason: str) -> dict[str, Any]:
    return {"status": "failed", "reason": reason}


def _all_failed(cells: Sequence[Cell], reason: str) -> Measured:
    rows = [{"cell": cell.text, **_failed(reason)} for cell in cells]
    return {"shape": {}, "order": [], "cells": rows}


def _writable(measured: Measured) -> Measured:
    """As it is, or the failure to keep it."""
    wrong = unwritable(measured)
    return _failed(_not_kept(wrong)) if wrong else measured


def _not_kept(wrong: str) -> str:
    return f"no record can hold what was measured: {wrong}"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {sentence(error)}"


def _infeasible(feasible: Feasible) -> dict[str, Any]:
    reason = infeasible(feasible)
    return {"status": "infeasible", "reason": reason, "feasible": list(feasible)}


def _summary(record: AccuracyRecord) -> str:
    if not record.is_ok:
        return f"FAILED: {record.reason}"
    (column,) = [column for column in columns_of([record]) if column.first]
    mean = float(column.scores(record).values.mean())
    unit = f" {column.unit}" if column.unit else ""
    return f"{mean:.1f}{unit} of {len(record.samples)} questions"
