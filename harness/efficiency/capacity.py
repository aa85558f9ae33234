"""The largest batch that fits into a stated memory, found by trying."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from harness.efficiency.trackers import Probe
from harness.efficiency.trackers.memory import peaks, weight_bytes
from harness.efficiency.workload import Load, Workload
from harness.models.load import LoadedModel
from harness.models.shapes import recorded_shape
from harness.records import cost
from methods import Budget, Method

GIB = 2**30


def largest_batch(
    loaded: LoadedModel, method: Method, budget: Budget, load: Load, memory_gib: float
) -> int:
    """Samples that are answered at once within `memory_gib`, weights included; 0 if none is."""

    def fits(batch: int) -> bool:
        try:
            workload = Workload.of(loaded, replace(load, batch_size=batch))
            return bytes_inside(Probe(workload, method, budget)) <= memory_gib * GIB
        except torch.OutOfMemoryError:
            return False

    def tried(batch: int) -> bool:
        inside = fits(batch)
        give_back_memory()  # here nothing holds the tensors of a run that found none
        return inside

    beside = memory_gib * GIB - weight_bytes(loaded.model)
    most = int(beside / _cache_bytes(loaded, budget, load))
    if most < 1:
        return 0
    with capped(loaded.model.device, memory_gib):
        return search(tried, first=most)


def bytes_inside(probe: Probe) -> int:
    """The most that is in use during a run, weights included. Raises torch.OutOfMemoryError."""
    model = probe.workload.loaded.model
    found: int = peaks(probe.run, model.device)["peak_bytes"]
    # on a GPU the peak has the weights already, and inputs that were there before
    return found + (0 if model.device.type == "cuda" else weight_bytes(model))


def _cache_bytes(loaded: LoadedModel, budget: Budget, load: Load) -> float:
    """Of one sample's KV cache at the end, about: what a sample takes at the least."""
    shape = recorded_shape(loaded.model)
    visual = Workload.of(loaded, replace(load, batch_size=1)).visual
    rows = min(float(budget.of(visual)), visual) + load.prompt_tokens + load.new_tokens
    return cost.kv_cache_bytes(shape, [rows] * shape["layers"], loaded.dtype)


def search(fits: Callable[[int], bool], first: int) -> int:
    """The largest batch that fits, if all smaller ones do: halved or doubled from `first`, then
    narrowed down to the sample.
    """
    low, high = first, first
    if fits(first):
        while fits(high := 2 * low):
            low = high
    else:
        while low := high // 2:
            if fits(low):
                break
            high = low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def give_back_memory() -> None:
    """Free what a broken run has left."""
    gc.collect()
    torch.cuda.empty_cache()


@contextmanager
def capped(device: torch.device, memory_gib: float) -> Iterator[None]:
    """torch's allocator hands out no more than this; on a CPU nothing stops it."""
    if device.type != "cuda":
        yield
        return
    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(memory_gib * GIB / whole, 1.0), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
