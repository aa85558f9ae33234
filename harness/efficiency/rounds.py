"""Warm-up and interleaved rounds of cells that are timed on one input."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from harness.efficiency.cell import TimedCell, seconds_of
from harness.efficiency.workload import Workload
from harness.records.cell import Cell
from harness.records.ledger import ledger_of, mean_cached

MOST_WARMUPS = 6

Step = Callable[[str, int, int], None]
"""Told what is being done, and which of how many of it begins."""


class UnprunedError(RuntimeError):
    """The unpruned model fails, so there is nothing to compare with."""


def equal_contexts(runs: Sequence[TimedCell], workload: Workload) -> dict[int, TimedCell]:
    """The unpruned model on text alone, by the rows that a pruned cell caches a layer."""
    measured = [run for run in runs if run.status == "ok" and run.cell.budget is not None]
    lengths = sorted({round(mean_cached(ledger_of(run.measured["ledger"]))) for run in measured})
    return {rows: TimedCell(Cell.parse("unpruned"), workload.of_text(rows)) for rows in lengths}


@contextmanager
def _garbage_uncollected() -> Iterator[None]:
    """A collection in the middle of a run would be counted as the method's."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _only_new_garbage() -> Iterator[None]:
    """To look through what the model's libraries hold takes as long as a round of a small model."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@_only_new_garbage()
def warm_up(runs: Sequence[TimedCell], on_step: Step) -> int:
    """Run every cell until its time is steady; returns how many rounds that took.

    Raises UnprunedError before any other cell runs, and MechanismError.
    """
    for number in range(MOST_WARMUPS):
        cold = [run for run in runs if run.status == "ok" and not run.is_warm]
        if not cold:
            return number
        with _garbage_uncollected():
            for i, run in enumerate(cold, 1):
                on_step(f"warm-up round {number + 1}", i, len(cold))
                run.attempt(run.warm_up)
                if run.needed and run.status == "failed":
                    raise UnprunedError(str(run.reason))
    return MOST_WARMUPS


@_only_new_garbage()
def rounds(
    runs: Sequence[TimedCell],
    workload: Workload,
    repeats: int,
    last: float | None,
    on_step: Step,
) -> tuple[list[list[int]], list[float]]:
    """The order of the cells in each round; seconds of `generate` without hooks, one a round
    in which unpruned ran. No round but the first begins after `last`, by the monotonic clock.
    """
    shuffle = random.Random(workload.load.seed)
    order: list[list[int]] = []
    stock: list[float] = []
    for number in range(repeats):
        if last is not None and order and monotonic() > last:
            break
        alive = [i for i, run in enumerate(runs) if run.status == "ok"]
        if not alive:
            break
        on_step("rounds", number + 1, repeats)
        shuffle.shuffle(alive)
        with _garbage_uncollected():
            for i in alive:
                runs[i].attempt(runs[i].time)
            if any(
                run.workload is workload and run.cell.budget is None and run.status == "ok"
                for run in runs
            ):
                stock.append(seconds_of(workload))
        order.append(alive)
    return order, stock
