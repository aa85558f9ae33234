"""The batch at which requests a second stop growing, found by doubling it; raw samples only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from statistics import median
from time import monotonic
from typing import Any

import torch

from harness.efficiency.capacity import GIB, bytes_inside, capped
from harness.efficiency.cell import OUT_OF_MEMORY, TimedCell
from harness.efficiency.rounds import Step, rounds, warm_up
from harness.efficiency.trackers.memory import weight_bytes
from harness.efficiency.workload import Workload
from harness.errors import BadInput
from harness.models.load import LoadedModel
from harness.models.placement import free_bytes
from harness.records.cell import Cell

GROWTH = 0.05
"""Twice the batch has to give this much more requests a second, or the cell is saturated."""


@dataclass
class Climb:
    """One cell's way up; `best` is its run at the batch where it stands, `held` what that takes
    beside the weights, in bytes.
    """

    cell: Cell
    batches: list[dict[str, Any]] = field(default_factory=list)
    best: TimedCell | None = None
    held: float = 0
    ended: str | None = None
    reason: str | None = None
    saturated: dict[str, Any] | None = None

    def judge(self, run: TimedCell) -> None:
        """Whether it stands at this run's batch now, or has ended below it."""
        if run.status == OUT_OF_MEMORY:
            self.ended = "memory"
        elif run.status != "ok":
            self.fail(run)
        else:
            self.batches.append(_at_batch(run))
            if self.best and _requests(run) < (1 + GROWTH) * _requests(self.best):
                self.ended = "growth"
            else:
                self.best = run

    def settle(self, run: TimedCell) -> None:
        """What `best` took in rounds with the other cells at theirs."""
        if run.status == "ok":
            self.saturated = _at_batch(run)
        else:
            self.fail(run)

    def fail(self, run: TimedCell) -> None:
        self.ended = "failure"
        self.reason = f"at batch {run.workload.load.batch_size}: {run.reason}"

    def body(self, gib: float) -> dict[str, Any]:
        found = {"gib": gib, "ended": self.ended, "reason": self.reason, "batches": self.batches}
        return found if self.saturated is None else {**found, "saturated": self.saturated}


@dataclass(frozen=True)
class Sweep:
    """Batches 1, 2, 4 and so on of what `workload` asks, within `memory_gib`, weights included.

    At each batch the cells that still grow are warmed up and run in `repeats` interleaved rounds.
    In as many rounds each cell then runs at the batch where it ended, so that cells are compared
    in the same rounds. No larger batch begins after `last`, by the monotonic clock.
    """

    workload: Workload
    repeats: int
    memory_gib: float
    last: float | None
    on_step: Step

    def saturate(self, runs: Sequence[TimedCell]) -> None:
        """Adds "saturation" to what was measured of the cells that work. Raises MechanismError."""
        held = [run for run in runs if run.status == "ok"]
        for run, climb in zip(held, self.climbed([run.cell for run in held]), strict=True):
            run.measured["saturation"] = climb.body(self.memory_gib)

    def climbed(self, cells: Sequence[Cell]) -> list[Climb]:
        climbs = [Climb(cell) for cell in cells]
        with capped(self.workload.loaded.model.device, self.memory_gib):
            for batch in (2**power for power in count()):
                for climb in climbs:
                    climb.ended = climb.ended or self._barred(climb)
                going = [climb for climb in climbs if climb.ended is None]
                if not going:
                    break
                self._try(going, batch)
            self._settle([climb for climb in climbs if climb.best and not climb.reason])
        return climbs

    def _barred(self, climb: Climb) -> str | None:
        """Why the next batch is not tried at all."""
        if climb.best and self.last is not None and monotonic() > self.last:
            return "time"
        # where a GPU runs out of memory, a system kills the process and what it has measured
        on_cpu = self.workload.loaded.model.device.type == "cpu"
        return "memory" if on_cpu and 2 * climb.held > free_bytes("cpu") else None

    def _try(self, going: Sequence[Climb], batch: int) -> None:
        load = replace(self.workload.load, batch_size=batch)
        try:
            workload = Workload.of(self.workload.loaded, load)
        except torch.OutOfMemoryError:
            for climb in going:
                climb.ended = "memory"
            return
        runs = [TimedCell(climb.cell, workload) for climb in going]
        for climb, run in zip(going, runs, strict=True):
            run.attempt(partial(self._hold, climb, run))
        self._time(runs, f"batch {batch}")
        for climb, run in zip(going, runs, strict=True):
            climb.judge(run)

    def _hold(self, climb: Climb, run: TimedCell) -> None:
        """Raises torch.OutOfMemoryError above the bound."""
        inside = bytes_inside(run.probe)
        if inside > self.memory_gib * GIB:
            raise torch.OutOfMemoryError
        climb.held = inside - weight_bytes(self.workload.loaded.model)

    def _settle(self, climbs: Sequence[Climb]) -> None:
        runs = [replace(climb.best, rounds=[]) for climb in climbs if climb.best]
        self._time(runs, "saturated")
        for climb, run in zip(climbs, runs, strict=True):
            climb.settle(run)

    def _time(self, runs: Sequence[TimedCell], what: str) -> None:
        def on_step(doing: str, number: int, total: int) -> None:
            self.on_step(f"{what}, {doing}", number, total)

        warm_up(runs, on_step)
        rounds(runs, self.workload, self.repeats, self.last, on_step)


def check_bound(loaded: LoadedModel, memory_gib: float) -> None:
    """Raises BadInput for a bound that the weights alone reach."""
    weights = weight_bytes(loaded.model) / GIB
    if weights >= memory_gib:
        raise BadInput(
            f"--saturate {memory_gib:g} is no more than the weights, which take {weights:.2g} GiB; "
            "allowed: GiB for weights and a batch"
        )


def _at_batch(run: TimedCell) -> dict[str, Any]:
    seconds = [each["end_to_end"] for each in run.rounds]
    return {"batch": run.workload.load.batch_size, "seconds": seconds}


def _requests(run: TimedCell) -> float:
    """A second."""
    return run.workload.load.batch_size / median(each["end_to_end"] for each in run.rounds)
