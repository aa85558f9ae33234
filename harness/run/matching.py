"""The budget at which a method costs what others cost."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import replace

from harness.records import cost
from harness.records.cell import Cell
from harness.run.request import Feasible
from methods import Budget, InfeasibleBudgetError, Method, PruningError
from methods.flops import selection_flops
from methods.interface import Sizes
from methods.method import origin
from methods.sizes import ModelShape


def plain_flops(tokens: int, shape: ModelShape, text: int) -> int:
    """FLOPs of a prefill with so many visual tokens in every layer."""
    return cost.prefill_flops(vars(shape), (tokens,) * shape.layers, text)


def method_flops(method: Method, tokens: int, sizes: Sizes, shape: ModelShape, text: int) -> int:
    """FLOPs of a prefill under the method's plan, its selections counted.

    Raises InfeasibleBudgetError, and PruningError as `selection_flops` does.
    """
    plan = method.plan(Budget(tokens), sizes)
    try:
        selections = selection_flops(plan, sizes, shape, text)
    except PruningError as error:
        raise PruningError(f"{origin(type(method))}: {error}") from error
    return cost.prefill_flops(vars(shape), plan.entering, text, plan.into_mlp) + selections


def matched(cell: Cell, sizes: Sizes, shape: ModelShape, text: int) -> Cell:
    """The cell with the tokens at which its FLOPs are nearest to those of its budget in each layer.

    Raises InfeasibleBudgetError, with the range of budgets, where the method cannot cost as much,
    or as little.
    """
    if not isinstance(cell.budget, int):
        return cell
    method = cell.method.build()
    low, high = method.feasible(sizes)
    if low is None or high is None:
        raise InfeasibleBudgetError(method.label, cell.budget, None, None)
    wanted = plain_flops(cell.budget, shape, text)

    def flops(tokens: int) -> int:
        return method_flops(method, tokens, sizes, shape, text)

    above = bisect_left(range(high + 1), wanted, lo=low, hi=high, key=flops)
    tokens = min({max(above - 1, low), above}, key=lambda t: abs(flops(t) - wanted))
    cheapest, dearest = (_equivalent(flops(t), shape, text, sizes.tokens) for t in (low, high))
    if not cheapest <= cell.budget <= dearest:
        raise InfeasibleBudgetError(method.label, cell.budget, cheapest, dearest)
    return replace(cell, matched=tokens)


def matched_cells(
    cells: Iterable[Cell], sizes: Sizes, shape: ModelShape, text: int
) -> tuple[list[Cell], dict[Cell, Feasible]]:
    """All cells, those that can be `matched` as such; and the others, with the budgets that can."""
    found: list[Cell] = []
    infeasible: dict[Cell, Feasible] = {}
    for cell in cells:
        try:
            found.append(matched(cell, sizes, shape, text))
        except InfeasibleBudgetError as error:
            found.append(cell)
            infeasible[cell] = (error.low, error.high)
    return found, infeasible


def _equivalent(flops: int, shape: ModelShape, text: int, most: int) -> int:
    """The tokens a layer, at most `most`, whose plain prefill costs nearest to `flops`."""

    def plain(tokens: int) -> int:
        return plain_flops(tokens, shape, text)

    above = bisect_left(range(most + 1), flops, lo=1, hi=most, key=plain)
    return min({max(above - 1, 1), above}, key=lambda t: abs(plain(t) - flops))
