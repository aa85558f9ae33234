"""Who answers what next: shard by shard, and of each shard cell by cell.

So all methods are equally far at any time, and an image goes through a worker's tower once for all
cells. Knows nothing of models: a simulation runs on it, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from harness.records.cell import Cell


@dataclass(frozen=True)
class Unit:
    """A shard of a cell's answers to a task: what is answered, kept and tried again as one.

    `piece`: the number of the piece that it belongs to; `shard`: its number, from 0.
    """

    piece: int
    cell: Cell
    task: str
    shard: int
    documents: tuple[int, ...]


class Deal:
    """Units that nobody has yet, in their order. Those of one shard of a task belong together."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._left: dict[tuple[int, str], deque[Unit]] = {}
        for unit in units:
            self._left.setdefault((unit.shard, unit.task), deque()).append(unit)
        self._begun: dict[str, tuple[int, str]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._left.values()))

    def next(self, worker: str = "") -> Unit | None:
        """Of the shard that the worker has images of; else of the first that nobody has begun; else
        of that with most left, to help.
        """
        own = self._begun.get(worker)
        if own is None or not self._left[own]:
            own = self._another()
        if own is None:
            return None
        self._begun[worker] = own
        return self._left[own].popleft()

    def _another(self) -> tuple[int, str] | None:
        left = [key for key, units in self._left.items() if units]
        taken = set(self._begun.values())
        untouched = [key for key in left if key not in taken]
        if untouched:
            return untouched[0]
        return max(left, key=lambda key: len(self._left[key]), default=None)

    def put_back(self, unit: Unit) -> None:
        """It was not answered, and is the next of its shard."""
        self._left[unit.shard, unit.task].appendleft(unit)

    def forget(self, worker: str) -> None:
        """The worker is gone, and what it knew of images with it."""
        self._begun.pop(worker, None)

    def drop(self, piece: int) -> None:
        """Nobody needs to answer this piece any more."""
        for key, units in self._left.items():
            self._left[key] = deque(unit for unit in units if unit.piece != piece)
