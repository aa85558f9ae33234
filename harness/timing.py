"""Times cells in interleaved rounds on one input; raw samples only, statistics come later."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from time import monotonic, perf_counter
from typing import Any

import torch

from harness.budgets import budget_of
from harness.capacity import give_back_memory, largest_batch
from harness.cells import Cell
from harness.counts import distinct, ledgers_of
from harness.errors import BadInput
from harness.gpu_state import gpu_state
from harness.inspection import attention_kernels, counted_flops
from harness.memory import cache_bytes, peaks, weight_bytes
from harness.models import LoadedModel
from harness.rates import device_rates
from harness.stopwatch import Stopwatch, synchronize
from harness.workload import Load, Workload
from methods import InfeasibleBudgetError, Method
from methods.adapters import adapter_for
from methods.interface import Plan

WARMUPS, MOST_WARMUPS = 2, 6
STEADY = 0.05
"""A cell is warm when its last two runs differ by less than this share."""
ONCE = ("vision_tower", "projector", "selection", "prefill")
"""Phases that a run has once, or in parts that are summed; "selection" is not in "prefill"."""
LISTS = ("stages", "decode", "between_tokens")
"""Seconds of each selecting stage, of each new token's forward, and between two forwards."""
OUT_OF_MEMORY = "out_of_memory"

Step = Callable[[str, int, int], None]
"""Told what is being done, and which of how many of it begins."""
Seconds = dict[str, Any]
"""Of one run: seconds of each phase of `ONCE`, "end_to_end", and `LISTS` as lists."""


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

    Each cell is run until warm, its memory, FLOPs and kernels are taken, and then every round runs
    every cell once, in shuffled order; no round begins later than `most_seconds` after the start.
    A cell that fails or finds no memory leaves the rounds with its reason. `memory_gib`: also find
    the largest batch of each cell in that much. Raises BadInput where no cell fits.
    """
    began = monotonic()
    device = model.model.device
    rates = device_rates(device, model.model.dtype)
    workload = _workload(model, load)
    runs = [_Run(cell, workload) for cell in cells]
    warm_up_rounds = _warm_up(runs, on_step)
    for number, run in enumerate(runs, 1):
        on_step("memory, FLOPs and kernels", number, len(runs))
        run.attempt(run.inspect)
    _check_memory(runs, load.batch_size)
    warm = gpu_state(device)
    order, stock = _rounds(runs, workload, repeats, began, most_seconds, on_step)
    after = gpu_state(device)
    if memory_gib is not None:
        for run in runs:
            run.attempt(partial(run.find_largest_batch, memory_gib))
    return {
        "cells": [run.record() for run in runs],
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


def _check_memory(runs: Sequence[_Run], batch: int) -> None:
    if runs and all(run.status == OUT_OF_MEMORY for run in runs):
        raise BadInput(_no_memory(batch))


def _no_memory(batch: int) -> str:
    return (
        f"no cell fits into the device's memory at batch {batch}; allowed: a smaller --batch-size"
    )


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
def _warm_up(runs: Sequence[_Run], on_step: Step) -> int:
    """Run every cell until its time is steady; returns how many rounds that took."""
    for number in range(MOST_WARMUPS):
        cold = [run for run in runs if run.status == "ok" and not run.is_warm]
        if not cold:
            return number
        with _garbage_uncollected():
            for i, run in enumerate(cold, 1):
                on_step(f"warm-up round {number + 1}", i, len(cold))
                run.attempt(run.warm_up)
    return MOST_WARMUPS


@_only_new_garbage()
def _rounds(
    runs: Sequence[_Run],
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
            if any(run.status == "ok" and run.cell.budget is None for run in runs):
                stock.append(_whole(workload))
        order.append(alive)
    return order, stock


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
        except torch.OutOfMemoryError:
            batch = self.workload.load.batch_size
            self.status, self.reason = OUT_OF_MEMORY, f"out of memory at batch {batch}"
        except Exception as error:
            self.status, self.reason = "failed", f"{type(error).__name__}: {error}"
        if self.status in ("failed", OUT_OF_MEMORY):
            give_back_memory()  # only now does nothing hold the tensors of the broken run

    @property
    def is_warm(self) -> bool:
        """Whether the last two runs took about equally long."""
        if len(self.warmups) < WARMUPS:
            return False
        last, before = (run["end_to_end"] for run in self.warmups[:-3:-1])
        return abs(last - before) <= STEADY * before

    def warm_up(self) -> None:
        self.warmups.append(time_run(self.workload, self._method, self.cell))

    def time(self) -> None:
        self.rounds.append(time_run(self.workload, self._method, self.cell))

    def inspect(self) -> None:
        """Counts, memory, FLOPs and kernels: none of it is timed."""
        method, budget = self._method, budget_of(self.cell)
        device = self.workload.loaded.model.device
        kept, prefill = cache_bytes(self.workload, method, budget)
        shape = adapter_for(self.workload.loaded.model).shape()
        ledger, _ = distinct(ledgers_of(prefill, shape))
        self.measured = {
            "parameters": dict(prefill.plans[0].parameters),
            "ledger": ledger,
            "text": ledger[0]["text"],
            "stages": stage_names(prefill.plans[0]),
            "merged_rows": _merged_rows(prefill),
            **peaks(self._generate, device),
            "kv_cache_bytes": kept,
            "counted_flops": counted_flops(self.workload, method, budget),
            "attention": attention_kernels(lambda: self._generate(new_tokens=1), device),
        }

    def find_largest_batch(self, memory_gib: float) -> None:
        method, budget = self._method, budget_of(self.cell)
        found = largest_batch(self.workload.loaded, method, budget, self.workload.load, memory_gib)
        self.measured["largest_batch"] = {"gib": memory_gib, "batch": found}

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

    def _generate(self, clock: Any = None, new_tokens: int | None = None) -> None:
        with self.workload.attached(self._method, budget_of(self.cell), clock):
            self.workload.generate(new_tokens)


def time_run(workload: Workload, method: Method, cell: Cell) -> Seconds:
    """One run's seconds by phase."""
    clock = Stopwatch(workload.loaded.model.device)
    with workload.attached(method, budget_of(cell), clock):
        whole = _whole(workload)
    times = clock.seconds()
    return {
        **{phase: sum(times.get(phase, [])) for phase in ONCE},
        "stages": times.get("selection", []),
        "decode": times.get("decode", []),
        "between_tokens": clock.gaps("decode"),
        "end_to_end": whole,
    }


def _whole(workload: Workload) -> float:
    """Seconds of one `generate`, from an idle device to an idle device."""
    device = workload.loaded.model.device
    synchronize(device)
    began = perf_counter()
    workload.generate()
    synchronize(device)
    return perf_counter() - began


def stage_names(plan: Plan) -> list[str]:
    """The selecting stages in the order in which they run; those of one layer run as one."""
    layers = sorted({stage.layer for stage in plan.decoder})
    tower = [f"{plan.encoder[0].name} in the tower"] if plan.encoder else []
    return tower + [
        "+".join(stage.name for stage in plan.decoder if stage.layer == layer) + f"@{layer}"
        for layer in layers
    ]


def _merged_rows(prefill: Any) -> int:
    """Rows of the batch that the tower's stages merged: the projector runs again on them."""
    cuts = [(s.rows, s.cut) for s in prefill.selections if s.layer is None]
    return sum(len(rows) * cut.anchors.shape[1] for rows, cut in cuts if cut.groups is not None)


def _columns(runs: Sequence[Seconds]) -> dict[str, list]:
    return {phase: [run[phase] for run in runs] for phase in (*ONCE, *LISTS, "end_to_end")}
