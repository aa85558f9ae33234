"""The work of a comparison, piece by piece: reused where it is known, measured and kept where not.

Cells are independent: one that fails becomes a record of its failure, and the others go on. Where
unpruned fails, or what pruning itself is made of, no other cell could be right: none is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.records.cell import Cell, infeasible
from harness.records.file import SCHEMA, unwritable
from harness.records.piece import Piece
from harness.records.provenance import now
from harness.records.record import Record
from harness.records.shards import Shards, origin_of
from harness.records.store import Store
from harness.run.answering import Answered, Answering, Engine, alone
from harness.run.failures import Failure, failed, failure_of, not_kept
from harness.run.instruments import Instrument, Results, Timing
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
    attention, device, code and versions; `provenance` as of the start; `engine`: who answers;
    `stopped`: why no further cell is run.
    """

    cells: Sequence[Cell]
    infeasible: Mapping[Cell, Feasible]
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    store: Store
    progress: Progress
    engine: Engine = alone
    stopped: str | None = field(default=None, init=False)

    def records(self, instruments: Iterable[Instrument]) -> list[Record]:
        """Outlines of one record a piece, in order.

        Raises BadInput when a record cannot be written, and Interrupted on Ctrl-C.
        """
        try:
            return [record for instrument in instruments for record in self._of(instrument)]
        except KeyboardInterrupt as interruption:
            raise Interrupted(_kept(self.store)) from interruption
        finally:
            self.progress.stop()

    def _of(self, instrument: Instrument) -> list[Record]:
        pieces = instrument.pieces(self.cells)
        known = [self.store.find(self._identity(piece)) for piece in pieces]
        found: dict[int, Record] = {i: record for i, record in enumerate(known) if record}
        self._say_reused(instrument.kind, len(found), len(pieces))
        new = [i for i in range(len(pieces)) if i not in found]
        self.progress.expect(sum(bool(self._feasible(pieces[i])) for i in new))
        for i, answered in self._in_turn(instrument, pieces, new):
            found[i] = self._made(instrument, pieces[i], answered)
            if self.stopped:
                break
        for i in new:
            if i not in found:
                found[i] = self._made(instrument, pieces[i], None)
        return [found[i] for i in range(len(pieces))]

    def _identity(self, piece: Piece) -> dict[str, Any]:
        return {**self.identity, **piece.identity}

    def _say_reused(self, kind: str, reused: int, pieces: int) -> None:
        if reused:
            what = f"{reused} of {pieces} {kind} records" if pieces > 1 else f"the {kind} record"
            self.progress.say(f"reused {what} from {self.store.directory}")

    def _feasible(self, piece: Piece) -> list[Cell]:
        return [cell for cell in piece.cells if cell not in self.infeasible]

    def _in_turn(
        self, instrument: Instrument, pieces: Sequence[Piece], new: Sequence[int]
    ) -> Iterator[tuple[int, Answered]]:
        """The numbers of the pieces as each can become a record, and what there is of it then."""
        if isinstance(instrument, Timing):
            yield from ((i, None) for i in new)
            return
        instrument.prepare([pieces[i] for i in new])
        parted: dict[int, Shards] = {}
        for i in new:
            piece = pieces[i]
            feasible = self._feasible(piece)
            earlier = self.store.answered(self._identity(piece)) if feasible else None
            if feasible and earlier is None:
                outline = self._body(instrument, piece, {cell: {} for cell in piece.cells}, {})
                parts = instrument.shards_of(piece.identity["task"])
                parted[i] = self.store.shards(outline, parts)
            else:
                yield i, earlier
        yield from Answering(pieces, parted, self.store, self.progress).by(self.engine, instrument)

    def _made(self, instrument: Instrument, piece: Piece, answered: Answered) -> Record:
        """The kept record of one piece, whatever came of it."""
        cells = self._feasible(piece)
        if not cells:
            return self._keep(instrument, piece, {}, {})
        if self.stopped:
            earlier = self.store.answered(self._identity(piece))
            return earlier or self._keep(instrument, piece, _all_failed(cells, self.stopped), {})
        self.progress.begin(piece.name)
        if isinstance(answered, Record):
            self.progress.say(f"{piece.name}: answered before, scored again")
        results, whole, origin = self._measured(instrument, piece, cells, answered)
        record = self._keep(instrument, piece, results, whole, origin)
        if isinstance(answered, Shards):
            answered.remove()
        self.progress.end(record)
        for cell in cells:
            if cell.budget is None and results[cell].get("status") == "failed":
                where = piece.identity.get("task", instrument.kind)
                self._stop(f"{cell.text} failed on {where}: {results[cell]['reason']}")
        return record

    def _measured(
        self, instrument: Instrument, piece: Piece, cells: Sequence[Cell], answered: Answered
    ) -> tuple[Results, Mapping[str, Any], Mapping[str, Any]]:
        """What a record can hold of it, of the piece as a whole, and of its origin; what breaks off
        is a failure of all the cells.
        """
        whole: Mapping[str, Any] = {}
        origin: Mapping[str, Any] = {}
        if isinstance(answered, Failure):
            return self._failed(cells, answered), whole, origin
        try:
            if isinstance(instrument, Timing):
                results, whole = instrument.measure(cells, self.progress)
            else:
                (cell,), task = cells, piece.identity["task"]
                earlier, origin = _answers(answered)
                results = {cell: instrument.run(cell, task, None, earlier)}
        except Exception as error:  # whatever it is, it becomes the cells' result and is shown
            return self._failed(cells, failure_of(error)), whole, origin
        if wrong := unwritable(whole):
            return _all_failed(cells, not_kept(wrong)), {}, origin
        return {cell: _writable(result) for cell, result in results.items()}, whole, origin

    def _failed(self, cells: Sequence[Cell], failure: Failure) -> Results:
        """Raises BadInput where that is what it is."""
        failure.raise_bad_input()
        if failure.stops:
            self._stop(failure.stops)
        return dict.fromkeys(cells, _writable(failure.result))

    def _stop(self, why: str) -> None:
        """Run no further cell; says so once."""
        if self.stopped is None:
            self.stopped = f"not run, because {why}"
            self.progress.say(f"the comparison stops, no other cell is run: {why}")

    def _keep(
        self,
        instrument: Instrument,
        piece: Piece,
        results: Results,
        whole: Mapping[str, Any],
        origin: Mapping[str, Any] | None = None,
    ) -> Record:
        others = {
            cell: _infeasible(self.infeasible[cell])
            for cell in piece.cells
            if cell in self.infeasible
        }
        body = self._body(instrument, piece, {**results, **others}, whole)
        elsewhere = body.get("provenance", {})
        provenance = {**self.provenance, **elsewhere, "created": now(), **(origin or {})}
        return self.store.keep({**body, "provenance": provenance})

    def _body(
        self, instrument: Instrument, piece: Piece, results: Results, whole: Mapping[str, Any]
    ) -> dict[str, Any]:
        """All of a record but its origin."""
        outline = {"schema": SCHEMA, "kind": instrument.kind, "identity": self._identity(piece)}
        return {**outline, **instrument.body(piece, results, whole)}


def _answers(answered: Answered) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """As an instrument takes them, and what their origin is. Raises what reading them does."""
    if isinstance(answered, Shards):
        from harness.accuracy.shards import merged

        parts = answered.parts()
        return merged(parts), origin_of(parts)
    return (answered.body if isinstance(answered, Record) else None), {}


def _all_failed(cells: Sequence[Cell], reason: str) -> Results:
    return dict.fromkeys(cells, failed(reason))


def _writable(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it is, or the failure to keep it."""
    wrong = unwritable(result)
    return failed(not_kept(wrong)) if wrong else result


def _infeasible(feasible: Feasible) -> dict[str, Any]:
    reason = infeasible(feasible)
    return {"status": "infeasible", "reason": reason, "feasible": list(feasible)}


def _kept(store: Store) -> str:
    return (
        f"interrupted; the records of all finished cells are kept in {store.directory}, "
        f"{store.written} of them from this run; the same command goes on from there"
    )
