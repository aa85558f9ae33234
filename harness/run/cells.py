"""The work of a comparison, piece by piece: reused where it is known, measured and kept where not.

Cells are independent: one that fails becomes a record of its failure, and the others go on. Where
unpruned fails, or what pruning itself is made of, no other cell could be right: none is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from harness.errors import BadInput, ScoringError, sentence
from harness.records.cell import Cell, infeasible
from harness.records.file import SCHEMA, Record, unwritable
from harness.records.piece import Piece
from harness.records.provenance import now
from harness.records.store import Store
from harness.run.instruments import Instrument, Results
from harness.run.progress import Progress
from harness.run.request import Feasible


@dataclass
class Work:
    """Cells to compare and what all their records share.

    `infeasible`: cells that cannot be, with the budgets that can; `identity`: model, digest, dtype,
    attention, device, code and versions; `provenance` as of the start; `stopped`: why no further
    cell is run.
    """

    cells: Sequence[Cell]
    infeasible: Mapping[Cell, Feasible]
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    store: Store
    progress: Progress
    stopped: str | None = field(default=None, init=False)

    def records(self, instrument: Instrument) -> list[Record]:
        """One outline a piece, in order. Raises BadInput when a record cannot be written."""
        pieces = instrument.pieces(self.cells)
        known = [self.store.find(self._identity(piece)) for piece in pieces]
        self._say_reused(instrument.kind, sum(map(bool, known)), len(pieces))
        new = [piece for piece, record in zip(pieces, known, strict=True) if record is None]
        instrument.prepare(new)
        runs = sum(bool(self._feasible(piece)) for piece in new)
        numbers = ((number, runs) for number in count(1))
        return [
            record or self._made(instrument, piece, numbers)
            for piece, record in zip(pieces, known, strict=True)
        ]

    def _identity(self, piece: Piece) -> dict[str, Any]:
        return {**self.identity, **piece.identity}

    def _say_reused(self, kind: str, reused: int, pieces: int) -> None:
        if reused:
            what = f"{reused} of {pieces} {kind} records" if pieces > 1 else f"the {kind} record"
            self.progress.say(f"reused {what} from {self.store.directory}")

    def _feasible(self, piece: Piece) -> list[Cell]:
        return [cell for cell in piece.cells if cell not in self.infeasible]

    def _made(
        self, instrument: Instrument, piece: Piece, numbers: Iterator[tuple[int, int]]
    ) -> Record:
        """The kept record of one piece, whatever came of it."""
        cells = self._feasible(piece)
        if not cells:
            return self._keep(instrument, piece, {}, {})
        earlier = self.store.answered(self._identity(piece))
        if self.stopped:
            return earlier or self._keep(instrument, piece, _all_failed(cells, self.stopped), {})
        self.progress.begin(piece.name, *next(numbers))
        if earlier is not None:
            self.progress.say(f"{piece.name}: answered before, scored again")
        results, whole = self._measured(instrument, piece, cells, earlier)
        record = self._keep(instrument, piece, results, whole)
        self.progress.end(record)
        for cell in cells:
            if cell.budget is None and results[cell].get("status") == "failed":
                where = piece.identity.get("task", instrument.kind)
                self._stop(f"{cell.text} failed on {where}: {results[cell]['reason']}")
        return record

    def _measured(
        self, instrument: Instrument, piece: Piece, cells: Sequence[Cell], earlier: Record | None
    ) -> tuple[Results, Mapping[str, Any]]:
        """What a record can hold of it; what breaks off is a failure of all the cells."""
        whole: Mapping[str, Any] = {}
        try:
            results, whole = instrument.measure(piece, cells, self.progress, earlier)
        except BadInput:
            raise
        except ScoringError as error:  # what was answered is kept, for the same command to score
            results = {cell: {**error.answered, **_failed(sentence(error))} for cell in cells}
        except Exception as error:  # whatever it is, it becomes the cells' result and is shown
            self._stop_at_mechanism(error)
            results = _all_failed(cells, f"{type(error).__name__}: {sentence(error)}")
        if wrong := unwritable(whole):
            return _all_failed(cells, _not_kept(wrong)), {}
        return {cell: _writable(result) for cell, result in results.items()}, whole

    def _stop_at_mechanism(self, error: Exception) -> None:
        from methods.interface import MechanismError  # after the cell has run: it imports torch

        if isinstance(error, MechanismError):
            self._stop(sentence(error))

    def _stop(self, why: str) -> None:
        """Run no further cell; says so once."""
        if self.stopped is None:
            self.stopped = f"not run, because {why}"
            self.progress.say(f"the comparison stops, no other cell is run: {why}")

    def _keep(
        self, instrument: Instrument, piece: Piece, results: Results, whole: Mapping[str, Any]
    ) -> Record:
        others = {
            cell: _infeasible(self.infeasible[cell])
            for cell in piece.cells
            if cell in self.infeasible
        }
        outline = {"schema": SCHEMA, "kind": instrument.kind, "identity": self._identity(piece)}
        content = instrument.body(piece, {**results, **others}, whole)
        provenance = {**self.provenance, "created": now()}
        return self.store.keep({**outline, **content, "provenance": provenance})


def _failed(reason: str) -> dict[str, Any]:
    return {"status": "failed", "reason": reason}


def _all_failed(cells: Sequence[Cell], reason: str) -> Results:
    return dict.fromkeys(cells, _failed(reason))


def _writable(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it is, or the failure to keep it."""
    wrong = unwritable(result)
    return _failed(_not_kept(wrong)) if wrong else result


def _not_kept(wrong: str) -> str:
    return f"no record can hold what was measured: {wrong}"


def _infeasible(feasible: Feasible) -> dict[str, Any]:
    reason = infeasible(feasible)
    return {"status": "infeasible", "reason": reason, "feasible": list(feasible)}
