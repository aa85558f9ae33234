"""Memory of a run by phase and the bytes of its KV cache, measured."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Protocol

import psutil
import torch

from harness.efficiency.trackers import Probe, Tracker, tracker
from harness.efficiency.workload import Workload
from harness.models.load import LoadedModel
from methods import Budget, Method
from methods.clock import Clock
from methods.trace import Prefill

_INTERVAL_SECONDS = 0.0005


@tracker
class Memory(Tracker):
    """Bytes of the weights; of a cell its peaks and its KV cache."""

    def before(self, loaded: LoadedModel) -> dict[str, Any]:
        return {"weight_bytes": weight_bytes(loaded.model)}

    def of_cell(self, probe: Probe) -> dict[str, Any]:
        kept, _ = cache_bytes(probe.workload, probe.method, probe.budget)
        device = probe.workload.loaded.model.device
        return {"kv_cache_bytes": kept, **peaks(probe.run, device)}


class _Peak(Protocol):
    def take(self) -> int:
        """The largest number of bytes in use since the last call."""


def weight_bytes(model: Any) -> int:
    """Bytes of parameters and buffers, shared ones once."""
    held = {t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}
    return sum(held.values())


def peaks(run: Callable[[Clock], object], device: torch.device) -> dict[str, Any]:
    """Most bytes in use up to the end of the prefill and after it, above what was in use before.

    "device": bytes that torch had allocated on the GPU; "peak_bytes" has the weights, too.
    "process": how far the process's resident memory rose, sampled, so very short peaks may be
    missed, and 0 where it fell all the time, as what ran before was given back. `run` is given
    the clock that `attach` is to tell of the prefill's end.
    """
    gc.collect()
    with _watching(device) as peak:
        before = peak.take()
        watch = _AfterPrefill(peak)
        run(watch)
        decode = peak.take()
    prefill = decode if watch.prefill is None else watch.prefill
    cuda = device.type == "cuda"
    whole = 0 if cuda else before
    return {
        "peak_kind": "device" if cuda else "process",
        "peak_bytes": max(prefill - whole, decode - whole, 0),
        "prefill_peak_bytes": max(prefill - before, 0),
        "decode_peak_bytes": max(decode - before, 0),
    }


class _AfterPrefill:
    """A clock that reads the peak when the prefill ends."""

    def __init__(self, peak: _Peak) -> None:
        self.peak = peak
        self.prefill: int | None = None

    def start(self, phase: str) -> None:
        pass

    def stop(self, phase: str) -> None:
        if phase == "prefill":
            self.prefill = self.peak.take()


def cache_bytes(workload: Workload, method: Method, budget: Budget) -> tuple[int, Prefill]:
    """Bytes of keys and values after the batch's prefill, padding included; and its counts."""
    with workload.attached(method, budget) as trace:
        cache = workload.generate(new_tokens=1).past_key_values
    return sum(_layer_bytes(layer) for layer in cache.layers), trace.prefills[-1]


def _layer_bytes(layer: Any) -> int:
    return sum(t.numel() * t.element_size() for t in (layer.keys, layer.values))


@contextmanager
def _watching(device: torch.device) -> Iterator[_Peak]:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        yield _OnDevice(device)
        return
    _return_freed_memory()
    resident = _Resident()
    try:
        yield resident
    finally:
        resident.stop()


class _OnDevice:
    """The allocator counts as memory is handed out, so nothing has to wait for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        torch.cuda.reset_peak_memory_stats(device)

    def take(self) -> int:
        most = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return most


class _Resident:
    """A thread that looks at the process's resident memory."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._most = self._now()
        self._finished = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self) -> int:
        most, self._most = max(self._most, self._now()), self._now()
        return most

    def stop(self) -> None:
        self._finished.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._finished.wait(_INTERVAL_SECONDS):
            self._most = max(self._most, self._now())

    def _now(self) -> int:
        return self._process.memory_info().rss


def _return_freed_memory() -> None:
    """glibc keeps what was freed; a run would then reuse it, and the rise would not be seen."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
