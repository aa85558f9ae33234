"""What is measured at once and becomes one record, and who is told how far that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from harness.records.cell import Cell


@dataclass(frozen=True)
class Piece:
    """The work of one record: one cell on one task, or all cells in interleaved rounds.

    `name` is for those who wait. `identity`: what tells the record from others, beside model,
    device, code and versions.
    """

    name: str
    cells: tuple[Cell, ...]
    identity: Mapping[str, Any]


OnItem = Callable[[float | None], None]
"""Called after each question with its score, None where the task is scored at the end only."""


class Listener(Protocol):
    """Is told how far a piece is: of its items, or of what is being done now."""

    def advance(self, done: int, total: int, score: float | None = None) -> None: ...
    def step(self, doing: str, number: int, total: int) -> None: ...
