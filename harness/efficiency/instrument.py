"""Times cells in interleaved rounds on one input; raw samples only, statistics come later."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from time import monotonic
from typing import Any

import torch

from harness.efficiency.cell import OUT_OF_MEMORY, WARMUPS, TimedCell, seconds_of
from harness.efficiency.gpu import gpu_state
from harness.efficiency.memory import weight_bytes
from harness.efficiency.rates import device_rates
from harness.efficiency.workload import Load, Workload
from harness.errors import BadInput
from harness.models.load import LoadedModel
from harness.records.cell import Cell
from harness.records.ledger import mean_cached
from harness.records.piece import Listener, Piece
from methods.adapters import adapter_for

MOST_WARMUPS = 6

Step = Callable[[str, int, int], None]
"""Told what is being done, and which of how many of it begins."""


class UnprunedError(RuntimeError):
    """The unpruned model fails, so there is nothing to compare with."""


@dataclass
class Efficiency:
    """Times all cells at one batch size. An instrument of `harness.run`: a single piece.

    `most_minutes`: no round begins later after the first step; `memory_gib`: also find each cell's
    largest batch in that much.
    """

    loaded: LoadedModel
    load: Load
    repeats: int
    most_minutes: float | None = None
    memory_gib: float | None = None
    kind = "efficiency"

    def pieces(self, cells: Sequence[Cell]) -> list[Piece]:
        """All cells together, of those that differ in their seed alone the first."""
        first = {(cell.method, cell.budget): cell for cell in reversed(cells)}
        timed = tuple(reversed(first.values()))
        identity = {
            "repeats": self.repeats,
            "warmups": [WARMUPS, MOST_WARMUPS],
            "most_minutes": self.most_minutes,
            "memory_gib": self.memory_gib,
            **asdict(self.load),
            "cells": [cell.text for cell in timed],
            "cell_identities": [cell.identity() for cell in timed],
        }
        return [Piece("efficiency", timed, identity)]

    def prepare(self, pieces: Sequence[Piece]) -> None:
        """Nothing."""

    def measure(
        self,
        piece: Piece,
        cells: Sequence[Cell],
        listener: Listener,
        earlier: Mapping[str, Any] | None,
    ) -> tuple[dict[Cell, dict[str, Any]], dict[str, Any]]:
        """Each cell's part of `measure`, and the others. Raises as it does."""
        measured = self.timed(cells, listener.step)
        rows = measured.pop("cells")
        return dict(zip(cells, rows, strict=True)), measured

    def timed(self, cells: Sequence[Cell], on_step: Step) -> dict[str, Any]:
        """`measure` with this instrument's settings."""
        return measure(
            self.loaded,
            cells,
            load=self.load,
            repeats=self.repeats,
            most_seconds=None if self.most_minutes is None else 60 * self.most_minutes,
            memory_gib=self.memory_gib,
            on_step=on_step,
        )

    def body(
        self, piece: Piece, results: Mapping[Cell, Mapping[str, Any]], whole: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Every cell's result beside its name, and what is of the run."""
        rows = [{**_outline(cell), **results[cell]} for cell in piece.cells]
        return {"shape": {}, "order": [], **whole, "cells": rows}


def _outline(cell: Cell) -> dict[str, Any]:
    """What a row says of a cell whatever came of it."""
    return {
        "cell": cell.text,
        "method": cell.method.described(),
        "budget": cell.budget,
        "matched": cell.matched,
    }


def measure(
    model: LoadedModel,
    cells: Sequence[Cell],
    *,
    load: Load,
    repeats: int,
    most_seconds: float | None = None,
    memory_gib: float | None = None,
    on_step: Step = lambda doing, number, total: None,
) -> dict[str, Any]:
    """The measured parts of an efficiency record: cells, order of each round, rates, shape.

    "equal_context": decode steps of the unpruned model after text prompts of as many rows as the
    pruned cells cache, each length once; in "order" these follow the cells.

    Each cell is run until warm, its memory, FLOPs and kernels are taken, and then every round runs
    every cell once, in shuffled order; no round begins later than `most_seconds` after the start.
    A cell that fails or finds no memory leaves the rounds with its reason. `memory_gib`: also find
    the largest batch of each cell in that much. Raises BadInput where no cell fits, and before any
    round UnprunedError and MechanismError.
    """
    began = monotonic()
    device = model.model.device
    rates = device_rates(device, model.model.dtype)
    workload = _workload(model, load)
    runs = [TimedCell(cell, workload, needed=cell.budget is None) for cell in cells]
    warm_up_rounds = _warm_up(runs, on_step)
    for number, run in enumerate(runs, 1):
        on_step("memory, FLOPs and kernels", number, len(runs))
        run.attempt(run.inspect)
    _check_memory(runs, load.batch_size)
    equal = _equal_contexts(runs, workload)
    _warm_up(list(equal.values()), on_step)
    warm = gpu_state(device)
    order, stock = _rounds(
        [*runs, *equal.values()], workload, repeats, began, most_seconds, on_step
    )
    after = gpu_state(device)
    if memory_gib is not None:
        for run in runs:
            run.attempt(partial(run.find_largest_batch, memory_gib))
    return {
        "cells": [run.record() for run in runs],
        "equal_context": [{"rows": rows, **run.decode_steps()} for rows, run in equal.items()],
        "order": order,
        "gpu_warm": warm,
        "gpu_after": after,
        "warm_up_rounds": warm_up_rounds,
        "stock_seconds": stock,
        "weight_bytes": weight_bytes(model.model),
        "rates": rates,
        "shape": asdict(adapter_for(model.model).shape()),
    }


def _workload(model: LoadedModel, load: Load) -> Workload:
    try:
        return Workload.of(model, load)
    except torch.OutOfMemoryError as error:
        raise BadInput(_no_memory(load.batch_size)) from error


def _check_memory(runs: Sequence[TimedCell], batch: int) -> None:
    if runs and all(run.status == OUT_OF_MEMORY for run in runs):
        raise BadInput(_no_memory(batch))


def _no_memory(batch: int) -> str:
    return (
        f"no cell fits into the device's memory at batch {batch}; allowed: a smaller --batch-size"
    )


def _equal_contexts(runs: Sequence[TimedCell], workload: Workload) -> dict[int, TimedCell]:
    """The unpruned model on text alone, by the rows that a pruned cell caches a layer."""
    measured = [run for run in runs if run.status == "ok" and run.cell.budget is not None]
    lengths = sorted({round(mean_cached(run.measured["ledger"])) for run in measured})
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
def _warm_up(runs: Sequence[TimedCell], on_step: Step) -> int:
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
def _rounds(
    runs: Sequence[TimedCell],
    workload: Workload,
    repeats: int,
    began: float,
    most_seconds: float | None,
    on_step: Step,
) -> tuple[list[list[int]], list[float]]:
    """The order of the cells in each round; seconds of `generate` without hooks, one a round
    in which unpruned ran.
    """
    shuffle = random.Random(workload.load.seed)
    order: list[list[int]] = []
    stock: list[float] = []
    for number in range(repeats):
        if most_seconds is not None and order and monotonic() - began > most_seconds:
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
