"""Peak memory of a run and the bytes of its KV cache, measured."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import psutil
import torch

from harness.workload import Workload
from methods import Budget, Method
from methods.trace import Prefill

_INTERVAL_SECONDS = 0.0005


def peak_bytes(run: Callable[[], object], device: torch.device) -> tuple[int, str]:
    """The largest memory in use during `run`, and what was watched.

    "device": bytes that torch had allocated on the GPU, weights included. "process": how far the
    process's resident memory rose above where it was before, sampled, so very short peaks may be
    missed.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device), "device"
    _return_freed_memory()
    return _resident_rise(run), "process"


def cache_bytes(workload: Workload, method: Method, budget: Budget) -> tuple[int, Prefill]:
    """Bytes of keys and values after the batch's prefill, padding included; and its counts."""
    with torch.no_grad(), workload.attached(method, budget) as trace:
        cache = workload.generate(new_tokens=1).past_key_values
    return sum(_layer_bytes(layer) for layer in cache.layers), trace.prefills[-1]


def _layer_bytes(layer: Any) -> int:
    return sum(t.numel() * t.element_size() for t in (layer.keys, layer.values))


def _resident_rise(run: Callable[[], object]) -> int:
    process = psutil.Process()
    before = peak = process.memory_info().rss
    finished = Event()

    def watch() -> None:
        nonlocal peak
        while not finished.wait(_INTERVAL_SECONDS):
            peak = max(peak, process.memory_info().rss)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run()
    finally:
        finished.set()
        watcher.join()
    return max(peak, process.memory_info().rss) - before


def _return_freed_memory() -> None:
    """glibc keeps what was freed; a run would then reuse it, and the rise would not be seen."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
