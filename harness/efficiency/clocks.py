"""Clocks for the runtime's phases: of time, by events on a GPU, and of counted FLOPs."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class _Span:
    phase: str
    began: Any
    ended: Any = None
    inner: list[_Span] = field(default_factory=list)


class Stopwatch:
    """Times nested phases. A phase's time is its own: that of phases inside it is taken out.

    One stopwatch serves one run. On CUDA the marks are events in the current stream of `device`,
    and nothing waits for the device before `seconds` and `gaps`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._open: list[_Span] = []
        self._done: list[_Span] = []
        self._outer: list[_Span] = []

    def start(self, phase: str) -> None:
        span = _Span(phase, self._mark())
        (self._open[-1].inner if self._open else self._outer).append(span)
        self._open.append(span)

    def stop(self, phase: str) -> None:
        """Raises RuntimeError if `phase` is not the one that was started last."""
        mark = self._mark()
        if not self._open or self._open[-1].phase != phase:
            raise RuntimeError(f"phase {phase!r} ends but was not the last to begin")
        span = self._open.pop()
        span.ended = mark
        self._done.append(span)

    def seconds(self) -> dict[str, list[float]]:
        """Own times in seconds of each phase, in the order in which they ended."""
        synchronize(self.device)
        times: dict[str, list[float]] = {}
        for span in self._done:
            own = self._between(span.began, span.ended)
            own -= sum(self._between(part.began, part.ended) for part in span.inner)
            times.setdefault(span.phase, []).append(own)
        return times

    def gaps(self, phase: str) -> list[float]:
        """Seconds from the end of the phase before to the start of each `phase`, the first of all
        excepted; phases inside others count as these.
        """
        synchronize(self.device)
        pairs = zip(self._outer, self._outer[1:], strict=False)
        return [self._between(a.ended, b.began) for a, b in pairs if b.phase == phase]

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _between(self, began: Any, ended: Any) -> float:
        if self.device.type != "cuda":
            return ended - began
        return began.elapsed_time(ended) / 1000


class FlopWatch(Stopwatch):
    """The same of the FLOPs that torch's counter has counted: `seconds` are FLOPs."""

    def __init__(self, device: torch.device, counter: FlopCounterMode) -> None:
        super().__init__(device)
        self.counter = counter

    def _mark(self) -> int:
        return self.counter.get_total_flops()

    def _between(self, began: int, ended: int) -> int:
        return ended - began


def synchronize(device: torch.device) -> None:
    """Wait for all that was given to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
