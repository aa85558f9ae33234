"""Who is told when phases begin and end."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Told when phases begin and end: vision_tower, projector, prefill, selection, decode."""

    def start(self, phase: str) -> None: ...

    def stop(self, phase: str) -> None: ...


class NoClock:
    """Listens to nothing."""

    def start(self, phase: str) -> None: ...

    def stop(self, phase: str) -> None: ...
