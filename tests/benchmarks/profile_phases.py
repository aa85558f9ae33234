"""Where the time of a prefill and of a new token goes: kernels, waits and idle device, by phase.

`python tests/benchmarks/profile_phases.py --model random:llava-1.5-7b --budget 64 --batch-size
8,1`. Every cell is timed without the profiler, then one run of it is profiled. Writes one JSON file
a batch size; on a CPU operators stand in for kernels.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import record_function

from harness.cli.words import parse_methods
from harness.efficiency.cell import time_run
from harness.efficiency.clocks import synchronize
from harness.efficiency.trackers.kernels import profiling, short
from harness.efficiency.workload import Load, Workload
from harness.models.load import load_model
from harness.models.placement import machine
from harness.records.cell import Cell, budget_of
from harness.records.file import write_atomically
from harness.records.provenance import provenance

RUNS, WARMUPS = 7, 3
LARGEST = 8
PREFIX = "phase:"
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
PHASES = ("vision_tower", "projector", "selection", "prefill", "decode")


class Ranges:
    """A clock that marks the phases in the profile."""

    def __init__(self) -> None:
        self.open: list[record_function] = []

    def start(self, phase: str) -> None:
        self.open.append(record_function(PREFIX + phase))
        self.open[-1].__enter__()

    def stop(self, phase: str) -> None:
        self.open.pop().__exit__(None, None, None)


def profiled(workload: Workload, cell: Cell) -> dict[str, dict[str, Any]]:
    """Of each phase: kernels, their milliseconds, waits of the host, and the largest kernels."""
    device = workload.loaded.model.device
    with (
        profiling(device) as profiler,
        workload.attached(cell.method.build(), budget_of(cell), Ranges()),
    ):
        workload.generate()
        synchronize(device)
    found: dict[str, dict[str, Any]] = {}
    for event in profiler.events():
        if event.name.startswith(PREFIX) and event.device_type == torch.autograd.DeviceType.CPU:
            phase = event.name.removeprefix(PREFIX)
            into = found.setdefault(phase, {"times": 0, "waits": 0, "launched": []})
            into["times"] += 1
            for part in _inside(event):
                into["waits"] += part.name in WAITS
                into["launched"] += _launched(part, device.type == "cuda")
    return {phase: _summed(**parts) for phase, parts in found.items()}


def _inside(event: Any) -> Iterator[Any]:
    """All that ran in a phase, but for phases inside it."""
    for child in event.cpu_children:
        if not child.name.startswith(PREFIX):
            yield child
            yield from _inside(child)


def _launched(event: Any, cuda: bool) -> list[tuple[str, float]]:
    """Name and milliseconds of an operator's kernels."""
    if cuda:
        return [(short(kernel.name), kernel.duration / 1000) for kernel in event.kernels]
    return [(event.name, event.self_cpu_time_total / 1000)]


def _summed(times: int, waits: int, launched: list[tuple[str, float]]) -> dict[str, Any]:
    milliseconds: Counter[str] = Counter()
    for name, taken in launched:
        milliseconds[name] += taken
    counts = Counter(name for name, _ in launched)
    largest = [[n, round(ms, 4), counts[n]] for n, ms in milliseconds.most_common(LARGEST)]
    return {
        "times": times,
        "waits": waits,
        "kernels": len(launched),
        "kernel_ms": sum(milliseconds.values()),
        "largest": largest,
    }


def measured(workload: Workload, cell: Cell) -> dict[str, Any]:
    """Median milliseconds by phase without the profiler, the stages one by one, and the profile."""
    runs = [time_run(workload, cell.method.build(), cell) for _ in range(WARMUPS + RUNS)][WARMUPS:]
    spans = {
        phase: 1000 * median(_total(run[phase]) for run in runs)
        for phase in (*PHASES, "end_to_end")
    }
    stages = [1000 * median(times) for times in zip(*(run["stages"] for run in runs), strict=True)]
    return {
        "cell": cell.text,
        "span_ms": spans,
        "stage_ms": stages,
        "profile": profiled(workload, cell),
    }


def _total(seconds: float | list[float]) -> float:
    return sum(seconds) if isinstance(seconds, list) else seconds


def show(cells: list[dict[str, Any]], batch: int) -> None:
    whole = cells[0]["span_ms"]["prefill"]
    print(
        f"\nbatch {batch}: ms (of these kernels), number of kernels, waits; decode: all new tokens"
    )
    for cell in cells:
        parts = []
        for phase in PHASES:
            if phase in cell["profile"]:
                found, span = cell["profile"][phase], cell["span_ms"][phase]
                counts = f"{found['kernels']} k, {found['waits']} w"
                parts.append(f"{phase} {span:.3f} ({found['kernel_ms']:.3f}) {counts}")
        share = 100 * cell["span_ms"]["selection"] / whole
        print(f"{cell['cell']}: {'; '.join(parts)}; selection {share:.2f} % of unpruned prefill")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="random:llava-1.5-7b")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--methods", default="all")
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--batch-size", default="8,1")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    loaded = load_model(options.model, options.device)
    cells = [Cell.parse("unpruned")]
    cells += [Cell(spec, options.budget) for spec in parse_methods(options.methods)]
    for batch in map(int, options.batch_size.split(",")):
        workload = Workload.of(loaded, Load(batch, new_tokens=4))
        found = [measured(workload, cell) for cell in cells]
        show(found, batch)
        content = {
            "model": loaded.name,
            "dtype": loaded.dtype,
            "batch_size": batch,
            "new_tokens": 4,
            "cells": found,
            **provenance(machine(loaded.device)),
        }
        path = options.output / f"batch{batch}.json"
        write_atomically(path, json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
