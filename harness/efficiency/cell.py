"""One cell on one input: what a run of it takes, counts and holds; raw samples only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch

from harness.efficiency.capacity import give_back_memory, largest_batch
from harness.efficiency.clocks import Stopwatch, synchronize
from harness.efficiency.trackers import Probe, gathered
from harness.efficiency.workload import Workload
from harness.errors import cause
from harness.models.shapes import shape_of
from harness.records.cell import Cell, budget_of, unmeasurable
from harness.records.counted import broken_promises, distinct, ledgers_of
from harness.records.phases import ONCE, PHASES
from methods import Method
from methods.interface import MechanismError
from methods.trace import Prefill

WARMUPS = 2
STEADY = 0.05
"""A cell is warm when its last two runs differ by less than this share."""
OUT_OF_MEMORY = "out_of_memory"

Seconds = dict[str, Any]
"""Of one run: seconds of each phase, of those in parts that are not summed as lists."""


class BrokenPromiseError(RuntimeError):
    """What entered the layers is not what was planned and asked for."""


@dataclass
class TimedCell:
    """One cell's measurements so far; `needed`: without it those of the others mean nothing."""

    cell: Cell
    workload: Workload
    needed: bool = False
    status: str = "ok"
    reason: str | None = None
    warmups: list[Seconds] = field(default_factory=list)
    rounds: list[Seconds] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    def attempt(self, step: Callable[[], None]) -> None:
        """Run a step; what goes wrong in it becomes the cell's result and stops no other cell.

        Raises MechanismError, which would hit every cell.
        """
        if self.status != "ok":
            return
        try:
            step()
        except MechanismError:
            raise
        except torch.OutOfMemoryError:
            batch = self.workload.load.batch_size
            self.status, self.reason = OUT_OF_MEMORY, f"out of memory at batch {batch}"
        except Exception as error:
            found = unmeasurable(error) or {"status": "failed", "reason": cause(error)}
            self.status, self.reason = found.pop("status"), found.pop("reason")
            self.measured = found or self.measured
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
        """Raises BrokenPromiseError."""
        seconds, prefill = time_run(self.workload, self._method, self.cell)
        broken = broken_promises(prefill, self._method, budget_of(self.cell))
        if reason := next(filter(None, broken), None):
            raise BrokenPromiseError(reason)
        self.warmups.append(seconds)
        self.counts = self.counts or self._counts(prefill)

    def time(self) -> None:
        self.rounds.append(time_run(self.workload, self._method, self.cell)[0])

    def inspect(self) -> None:
        """What the trackers tell of a warm cell: none of it is timed."""
        self.measured = {**self.counts, **gathered(lambda tracker: tracker.of_cell(self.probe))}

    def _counts(self, prefill: Prefill) -> dict[str, Any]:
        """What entered, by which plan: the same in every run."""
        ledger, _ = distinct(ledgers_of(prefill, shape_of(self.workload.loaded.model)))
        return {
            "parameters": dict(prefill.plans[0].parameters),
            "ledger": ledger,
            "text": ledger[0]["text"],
            "stages": stage_names(prefill),
            "merged_rows": _merged_rows(prefill),
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

    def decode_steps(self) -> dict[str, Any]:
        """Of a cell of which nothing else is asked."""
        steps = [run["decode"] for run in self.rounds]
        return {"status": self.status, "reason": self.reason, "decode": steps}

    @property
    def probe(self) -> Probe:
        return Probe(self.workload, self._method, budget_of(self.cell))

    @property
    def _method(self) -> Method:
        return self.cell.method.build()


def time_run(workload: Workload, method: Method, cell: Cell) -> tuple[Seconds, Prefill]:
    """One run's seconds by phase, and its prefill, of which nothing is read yet."""
    clock = Stopwatch(workload.loaded.model.device)
    with workload.attached(method, budget_of(cell), clock) as trace:
        whole = seconds_of(workload)
    times = clock.seconds()
    seconds = {
        **{phase: sum(times.get(phase, [])) for phase in ONCE},
        "stages": times.get("selection", []),
        "decode": times.get("decode", []),
        "between_tokens": clock.gaps("decode"),
        "end_to_end": whole,
    }
    return seconds, trace.prefills[-1]


def seconds_of(workload: Workload) -> float:
    """Seconds of one `generate`, from an idle device to an idle device."""
    device = workload.loaded.model.device
    synchronize(device)
    began = perf_counter()
    workload.generate()
    synchronize(device)
    return perf_counter() - began


def stage_names(prefill: Prefill) -> list[str]:
    """The selecting stages of the first sample's plan in the order in which they ran; those of one
    place in the decoder ran as one.
    """
    plan = prefill.plans[0]
    decoder: dict[tuple[int, bool], list[str]] = {}
    for stage in plan.decoder:
        decoder.setdefault((stage.layer, stage.before_mlp), []).append(stage.name)
    inside = sorted({(s.layer, not s.before_mlp, s.name) for own in plan.tower for s in own})
    tower = [f"{name} in tower layer {layer}" for layer, _, name in inside]
    tower += [f"{plan.encoder[0].name} in the tower"] if plan.encoder else []
    asked = sorted(decoder.keys() & prefill.asked)
    return tower + ["+".join(decoder[place]) + f"@{place[0]}" for place in asked]


def _merged_rows(prefill: Any) -> int:
    """Rows of the batch that the projector runs on again: those that the tower's stages merged, and
    all that they kept of samples with crops.
    """
    cuts = [
        (s.rows, s.cut, any(segment.crops for segment in prefill.sizes[s.rows[0]].segments))
        for s in prefill.selections
        if s.layer is None and not prefill.plans[s.rows[0]].tower
    ]
    return sum(len(rows) * cut.anchors.shape[1] for rows, cut, crops in cuts if cut.merges or crops)


def _columns(runs: Sequence[Seconds]) -> dict[str, list]:
    return {phase.name: [run[phase.name] for run in runs] for phase in PHASES}
