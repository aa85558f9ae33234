"""A cell's budget as the runtime takes it."""

from __future__ import annotations

from harness.cells import Cell
from methods import Budget


def budget_of(cell: Cell) -> Budget:
    """Visual tokens a layer; without a budget everything is kept. Raises PruningError."""
    return Budget(fraction=1.0) if cell.budget is None else Budget(cell.budget)
