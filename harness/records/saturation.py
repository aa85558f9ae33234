"""How many requests a second a cell answers, by the batch: raw samples, typed and frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records.timed_bodies import AtBatchBody, SaturationBody


@dataclass(frozen=True)
class AtBatch:
    """Seconds of whole generations of so many samples at once, by round."""

    batch: int
    seconds: Sequence[float]

    @classmethod
    def of(cls, body: AtBatchBody) -> AtBatch:
        return cls(body["batch"], body["seconds"])

    @property
    def requests(self) -> list[float]:
        """A second, of each round."""
        return [self.batch / seconds for seconds in self.seconds]


@dataclass(frozen=True)
class Saturation:
    """Batches as they were tried within `gib`, weights included, and why no larger one was:
    "growth", "memory", "time" or "failure", which has a `reason`.

    `saturated` was timed in rounds with all other cells, each at its own batch; None where it was
    not.
    """

    gib: float
    ended: str
    reason: str | None
    batches: Sequence[AtBatch]
    saturated: AtBatch | None

    @classmethod
    def of(cls, body: SaturationBody) -> Saturation:
        last = body.get("saturated")
        return cls(
            body["gib"],
            body["ended"],
            body["reason"],
            tuple(map(AtBatch.of, body["batches"])),
            None if last is None else AtBatch.of(last),
        )

    @property
    def single(self) -> AtBatch | None:
        """One sample at a time, where that was timed."""
        return next((tried for tried in self.batches if tried.batch == 1), None)
