"""Efficiency of cells, timed in interleaved rounds; raw samples only, statistics come later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import torch

from harness.efficiency.cell import OUT_OF_MEMORY, WARMUPS, TimedCell
from harness.efficiency.rounds import MOST_WARMUPS, Step, equal_contexts, rounds, warm_up
from harness.efficiency.saturation import Sweep
from harness.efficiency.trackers import gathered
from harness.efficiency.workload import Load, Workload
from harness.errors import BadInput
from harness.models.load import LoadedModel
from harness.models.shapes import recorded_shape
from harness.records.cell import Cell
from harness.records.piece import Listener, Piece


@dataclass
class Efficiency:
    """Times all cells at one batch size. An instrument of `harness.run`: a single piece.

    `most_minutes`: no round begins later after the first step; `memory_gib`: also find each cell's
    largest batch in that much; `elsewhere`: what does as `timed` does, for who has no model;
    `saturate_gib`: also find where each cell's requests a second stop growing in that much.
    """

    loaded: LoadedModel
    load: Load
    repeats: int
    most_minutes: float | None = None
    memory_gib: float | None = None
    elsewhere: Callable[[Sequence[Cell], Step], dict[str, Any]] | None = None
    saturate_gib: float | None = None
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
            **self.load.identity(),
            "cells": [cell.text for cell in timed],
            "cell_identities": [cell.identity() for cell in timed],
        }
        if self.saturate_gib is not None:
            identity["saturate_gib"] = self.saturate_gib
        return [Piece("efficiency", timed, identity)]

    def measure(
        self, cells: Sequence[Cell], listener: Listener
    ) -> tuple[dict[Cell, dict[str, Any]], dict[str, Any]]:
        """Each cell's part of what is `timed`, and the others. Raises as it does."""
        measured = (self.elsewhere or self.timed)(cells, listener.step)
        rows = measured.pop("cells")
        return dict(zip(cells, rows, strict=True)), measured

    def timed(self, cells: Sequence[Cell], on_step: Step) -> dict[str, Any]:
        """The measured parts of an efficiency record: cells, order of each round, shape.

        "equal_context": decode steps of the unpruned model after text prompts of as many rows as
        the pruned cells cache, each length once; in "order" these follow the cells.

        Each cell is run until warm, the trackers are asked about it, and then every round runs
        every cell once, in shuffled order. A cell that fails or finds no memory leaves the rounds
        with its reason. Raises BadInput where no cell fits, and before any round UnprunedError and
        MechanismError.
        """
        began, loaded = monotonic(), self.loaded
        before = gathered(lambda tracker: tracker.before(loaded))
        workload = _workload(loaded, self.load)
        runs = [TimedCell(cell, workload, needed=cell.budget is None) for cell in cells]
        warm_up_rounds = warm_up(runs, on_step)
        for number, run in enumerate(runs, 1):
            on_step("memory, FLOPs and kernels", number, len(runs))
            run.attempt(run.inspect)
        _check_memory(runs, self.load.batch_size)
        equal = equal_contexts(runs, workload)
        warm_up(list(equal.values()), on_step)
        warm = gathered(lambda tracker: tracker.warm(loaded))
        last = None if self.most_minutes is None else began + 60 * self.most_minutes
        order, stock = rounds([*runs, *equal.values()], workload, self.repeats, last, on_step)
        after = gathered(lambda tracker: tracker.after(loaded))
        if self.memory_gib is not None:
            for run in runs:
                run.attempt(partial(run.find_largest_batch, self.memory_gib))
        if self.saturate_gib is not None:
            Sweep(workload, self.repeats, self.saturate_gib, last, on_step).saturate(runs)
        return {
            "cells": [run.record() for run in runs],
            "equal_context": [{"rows": rows, **run.decode_steps()} for rows, run in equal.items()],
            "order": order,
            "warm_up_rounds": warm_up_rounds,
            "stock_seconds": stock,
            "shape": recorded_shape(loaded.model),
            **before,
            **warm,
            **after,
        }

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
        "budget": cell.budget_body,
        "matched": cell.matched,
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
