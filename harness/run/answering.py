"""Answers shard by shard, until each piece is whole; who answers is an engine's business."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.records.file import unwritable
from harness.records.piece import OnItem, Piece
from harness.records.record import Record
from harness.records.shards import Shards
from harness.records.store import Store
from harness.run.deal import Deal, Unit
from harness.run.failures import Failure, failed, failure_of, not_kept
from harness.run.instruments import Asking
from harness.run.progress import Progress, mean_told

Answered = Record | Shards | Failure | None
"""What there is of a piece before it becomes a record: answers that could not be scored, answers to
all its questions, why it has none; or nothing, as of what is timed.
"""


@dataclass(frozen=True)
class Done:
    """A unit with its answers, or why there are none; `worker` is empty where there is but one."""

    unit: Unit
    answers: Mapping[str, Any] | None
    failure: Failure | None = None
    worker: str = ""


Begin = Callable[[Unit], OnItem]
"""Told that a unit is begun; gives whom to tell of each of its questions."""
Engine = Callable[[Asking, Deal, Begin], Iterator[Done]]
"""Has the units answered, and gives them back in the order in which they are done."""


def alone(asking: Asking, deal: Deal, begin: Begin) -> Iterator[Done]:
    """In this process, one after the other."""
    while (unit := deal.next()) is not None:
        yield attempted(asking, unit, begin(unit))


def attempted(asking: Asking, unit: Unit, on_item: OnItem | None, worker: str = "") -> Done:
    """Whatever goes wrong is the unit's failure."""
    try:
        answers = asking.answer(unit.cell, unit.task, unit.documents, on_item)
    except Exception as error:  # whatever it is, it becomes the cell's result and is shown
        return Done(unit, None, failure_of(error), worker)
    if wrong := unwritable(answers):
        return Done(unit, None, Failure(failed(not_kept(wrong))), worker)
    return Done(unit, answers, None, worker)


@dataclass
class Answering:
    """`pieces`: all of an instrument; `shards`: of those that are to be answered, by number."""

    pieces: Sequence[Piece]
    shards: dict[int, Shards]
    store: Store
    progress: Progress
    told: dict[int, OnItem] = field(default_factory=dict, init=False)

    def by(self, engine: Engine, asking: Asking) -> Iterator[tuple[int, Answered]]:
        """Each piece when its last part is there, or its first failed. Raises BadInput."""
        for i in [i for i, shards in self.shards.items() if not shards.missing]:
            yield i, self.shards.pop(i)
        if not self.shards:
            return
        tasks = list(dict.fromkeys(piece.identity["task"] for piece in self.pieces))
        units = [unit for i in self.shards for unit in self._units(i)]
        deal = Deal(sorted(units, key=lambda unit: (unit.shard, tasks.index(unit.task))))
        left = sum(s.questions - s.answered for s in self.shards.values())
        self.progress.expect_questions(left)
        for done in engine(asking, deal, self._begun):
            i = done.unit.piece
            if i in self.shards and (answered := self._taken(done)):
                del self.shards[i]
                deal.drop(i)
                yield i, answered

    def _units(self, i: int) -> Iterator[Unit]:
        (cell,), task = self.pieces[i].cells, self.pieces[i].identity["task"]
        for number in self.shards[i].missing:
            yield Unit(i, cell, task, number, tuple(self.shards[i].documents[number]))

    def _begun(self, unit: Unit) -> OnItem:
        shards = self.shards[unit.piece]
        self.progress.begin(self.pieces[unit.piece].name)
        if unit.piece not in self.told:
            told = mean_told(self.progress, shards.answered, shards.questions)
            self.told[unit.piece] = told
        return self.told[unit.piece]

    def _taken(self, done: Done) -> Shards | Failure | None:
        """All of the piece, if that is what it is now."""
        if done.answers is None:
            return done.failure
        shards = self.shards[done.unit.piece]
        self.store.add(shards, done.unit.shard, done.answers, done.worker)
        name, seconds = self.pieces[done.unit.piece].name, done.answers["wall_seconds"]
        self.progress.answered(name, len(done.unit.documents), seconds)
        if shards.missing:
            self.progress.part(name, shards.answered, shards.questions, done.worker)
            return None
        return shards
