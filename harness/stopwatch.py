"""A clock for the runtime's phases: events on a GPU, which wait for nothing; seconds on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch


@dataclass
class _Span:
    phase: str
    began: Any
    ended: Any = None
    inner: list[_Span] = field(default_factory=list)


class Stopwatch:
    """Times nested phases. A phase's time is its own: that of phases inside it is taken out.

    One stopwatch serves one run. On CUDA the marks are events in the current stream of `device`,
    and nothing waits for the device before `seconds`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._open: list[_Span] = []
        self._done: list[_Span] = []

    def start(self, phase: str) -> None:
        span = _Span(phase, self._mark())
        if self._open:
            self._open[-1].inner.append(span)
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
            own = self._length(span) - sum(map(self._length, span.inner))
            times.setdefault(span.phase, []).append(own)
        return times

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _length(self, span: _Span) -> float:
        if self.device.type != "cuda":
            return span.ended - span.began
        return span.began.elapsed_time(span.ended) / 1000


def synchronize(device: torch.device) -> None:
    """Wait for all that was given to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
