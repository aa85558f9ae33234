"""Times cells in interleaved rounds on one input; raw samples only, statistics come later."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import torch

from harness.budgets import budget_of
from harness.cells import Cell
from harness.counts import distinct, ledgers_of
from harness.memory import cache_bytes, peak_bytes
from harness.models import LoadedModel
from harness.stopwatch import Stopwatch, synchronize
from harness.workload import Workload
from methods import InfeasibleBudgetError, Method
from methods.adapters import adapter_for

WARMUPS = 2
NEW_TOKENS = 16
ONCE = ("vision_tower", "projector", "selection", "prefill")
"""Phases that a run has once, or in parts that are summed; "selection" is not in "prefill"."""

Seconds = dict[str, Any]
"""Of one run: seconds of each phase, "end_to_end", and "decode" as a list with one a new token."""


def measure(
    model: LoadedModel,
    cells: Sequence[Cell],
    *,
    repeats: int,
    batch_size: int = 1,
    new_tokens: int = NEW_TOKENS,
    seed: int = 0,
    on_round: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """The measured parts of an efficiency record: cells, order of each round, shape.

    Each cell is run `WARMUPS` times, its memory is measured, and then every round runs every cell
    once, in shuffled order. A cell that fails leaves the rounds with its reason. `on_round` is told
    of the rounds that are done, warm-up included.
    """
    workload = Workload.of(model, batch_size, new_tokens, seed)
    runs = [_Run(cell, workload) for cell in cells]
    shuffle = random.Random(seed)
    order: list[list[int]] = []
    for number in range(-WARMUPS, repeats):
        if number == 0:
            for run in runs:
                run.attempt(run.measure_memory)
        alive = [i for i, run in enumerate(runs) if run.status == "ok"]
        shuffle.shuffle(alive)
        with _garbage_uncollected():
            for i in alive:
                runs[i].attempt(runs[i].warm_up if number < 0 else runs[i].time)
        if number >= 0:
            order.append(alive)
        on_round(number + WARMUPS + 1, repeats + WARMUPS)
    return {
        "cells": [run.record() for run in runs],
        "order": order,
        "shape": asdict(adapter_for(model.model).shape()),
    }


@dataclass
class _Run:
    """One cell's measurements so far."""

    cell: Cell
    workload: Workload
    status: str = "ok"
    reason: str | None = None
    warmups: list[Seconds] = field(default_factory=list)
    rounds: list[Seconds] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def attempt(self, step: Callable[[], None]) -> None:
        """Run a step; what goes wrong in it becomes the cell's result and stops no other cell."""
        if self.status != "ok":
            return
        try:
            step()
        except InfeasibleBudgetError as error:
            self.status, self.reason = "infeasible", str(error)
            self.measured = {"feasible": [error.low, error.high]}
        except Exception as error:
            self.status, self.reason = "failed", f"{type(error).__name__}: {error}"
        if self.status == "failed":
            gc.collect()  # only now does nothing hold the tensors of a run that found no memory
            torch.cuda.empty_cache()

    def warm_up(self) -> None:
        self.warmups.append(time_run(self.workload, self._method, self.cell))

    def time(self) -> None:
        self.rounds.append(time_run(self.workload, self._method, self.cell))

    def measure_memory(self) -> None:
        method, budget = self._method, budget_of(self.cell)
        kept, prefill = cache_bytes(self.workload, method, budget)
        peak, kind = peak_bytes(self._generate, self.workload.loaded.model.device)
        shape = adapter_for(self.workload.loaded.model).shape()
        ledger, _ = distinct(ledgers_of(prefill, shape))
        self.measured = {
            "parameters": dict(prefill.plans[0].parameters),
            "ledger": ledger,
            "text": ledger[0]["text"],
            "peak_bytes": peak,
            "peak_kind": kind,
            "kv_cache_bytes": kept,
        }

    def record(self) -> dict[str, Any]:
        return {
            "cell": self.cell.text,
            "status": self.status,
            "reason": self.reason,
            "raw_seconds": _columns(self.rounds),
            "warmup_seconds": _columns(self.warmups),
            **self.measured,
        }

    @property
    def _method(self) -> Method:
        return self.cell.method.build()

    def _generate(self) -> None:
        with torch.no_grad(), self.workload.attached(self._method, budget_of(self.cell)):
            self.workload.generate()


def time_run(workload: Workload, method: Method, cell: Cell) -> Seconds:
    """One run's seconds by phase."""
    device = workload.loaded.model.device
    clock = Stopwatch(device)
    with torch.no_grad(), workload.attached(method, budget_of(cell), clock):
        synchronize(device)
        began = perf_counter()
        workload.generate()
        synchronize(device)
        ended = perf_counter()
    times = clock.seconds()
    return {
        **{phase: sum(times.get(phase, [])) for phase in ONCE},
        "decode": times.get("decode", []),
        "end_to_end": ended - began,
    }


def _columns(runs: Sequence[Seconds]) -> dict[str, list]:
    return {phase: [run[phase] for run in runs] for phase in (*ONCE, "decode", "end_to_end")}


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
