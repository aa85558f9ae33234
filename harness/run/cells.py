"""The work of a comparison, piece by piece: reused where it is known, measured and kept where not.

Cells are independent: one that fails becomes a record of its failure, and the others go on. Where
unpruned fails, or what pruning itself is made of, no other cell could be right: none is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import BadInput, ScoringError, sentence
from harness.records.cell import Cell, infeasible, unmeasurable
from harness.records.file import SCHEMA, unwritable
from harness.records.piece import Piece
from harness.records.provenance import now
from harness.records.record import Record
from harness.records.store import Store
from harness.run.instruments import Instrument, Results
from harness.run.progress import Progress
from harness.run.request import Feasible

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while cells were measured; the message says what is kept."""


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

    def records(self, instruments: Iterable[Instrument]) -> list[Record]:
        """Outlines of one record a piece, in order.

        Raises BadInput when a record cannot be written, and Interrupted on Ctrl-C.
        """
        try:
            return [
                known or self._made(instrument, piece, number)
                for instrument in instruments
                for piece, known, number in self._planned(instrument)
            ]
        except KeyboardInterrupt as interruption:
            raise Interrupted(_kept(self.store)) from interruption
        finally:
            self.progress.stop()

    def _planned(
        self, instrument: Instrument
    ) -> Iterator[tuple[Piece, Record | None, tuple[int, int]]]:
        """Its pieces, each with the record that is there already, or which of how many it is."""
        pieces = instrument.pieces(self.cells)
        known = [self.store.find(self._identity(piece)) for piece in pieces]
        self._say_reused(instrument.kind, sum(map(bool, known)), len(pieces))
        new = [piece for piece, record in zip(pieces, known, strict=True) if record is None]
        instrument.prepare(new)
        number, runs = 0, sum(bool(self._feasible(piece)) for piece in new)
        for piece, record in zip(pieces, known, strict=True):
            number += record is None and bool(self._feasible(piece))
            yield piece, record, (number, runs)

    def _identity(self, piece: Piece) -> dict[str, Any]:
        return {**self.identity, **piece.identity}

    def _say_reused(self, kind: str, reused: int, pieces: int) -> None:
        if reused:
            what = f"{reused} of {pieces} {kind} records" if pieces > 1 else f"the {kind} record"
            self.progress.say(f"reused {what} from {self.store.directory}")

    def _feasible(self, piece: Piece) -> list[Cell]:
        return [cell for cell in piece.cells if cell not in self.infeasible]

    def _made(self, instrument: Instrument, piece: Piece, number: tuple[int, int]) -> Record:
        """The kept record of one piece, whatever came of it."""
        cells = self._feasible(piece)
        if not cells:
            return self._keep(instrument, piece, {}, {})
        earlier = self.store.answered(self._identity(piece))
        if self.stopped:
            return earlier or self._keep(instrument, piece, _all_failed(cells, self.stopped), {})
        self.progress.begin(piece.name, *number)
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
            answers = None if earlier is None else earlier.body
            results, whole = instrument.measure(piece, cells, self.progress, answers)
        except BadInput:
            raise
        except ScoringError as error:  # what was answered is kept, for the same command to score
            results = {cell: {**error.answered, **_failed(sentence(error))} for cell in cells}
        except Exception as error:  # whatever it is, it becomes the cells' result and is shown
            self._stop_at_mechanism(error)
            results = dict.fromkeys(cells, unmeasurable(error) or _broken_off(error))
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


def _broken_off(error: Exception) -> dict[str, Any]:
    return _failed(f"{type(error).__name__}: {sentence(error)}")


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


def _kept(store: Store) -> str:
    return (
        f"interrupted; the records of all finished cells are kept in {store.directory}, "
        f"{store.written} of them from this run; the same command goes on from there"
    )
