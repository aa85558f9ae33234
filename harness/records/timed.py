"""What a run of timing measured of each cell: raw samples and counts, typed and frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from harness.records.cell import Cell
from harness.records.ledger import LedgerRow, broken_promise, ledger_of
from harness.records.phases import PHASES
from harness.records.result import Result, outcome
from harness.records.saturation import Saturation
from harness.records.timed_bodies import EqualContextBody, TimedBody


@dataclass(frozen=True)
class Rates:
    """Of the device, as measured in the run."""

    flops_per_second: float
    bytes_per_second: float


@dataclass(frozen=True)
class EqualContext:
    """Decode steps of the unpruned model after a text prompt of so many `rows`, by round."""

    rows: int
    status: str
    reason: str | None
    decode: Sequence[Sequence[float]]

    @classmethod
    def of(cls, body: EqualContextBody) -> EqualContext:
        return cls(body["rows"], body["status"], body["reason"], body["decode"])


@dataclass(frozen=True, eq=False)
class TimedCell(Result):
    """What was not measured is None or empty; of a cell that was not timed nothing was.

    `version`: digest of the user's own file that its method is from. `counted_flops`: by phase, as
    torch counted them; `operators` and `kernels`: of the attention, as profiled.
    """

    seconds: Mapping[str, Sequence[Any]] = field(repr=False)
    version: str = ""
    peak_kind: str = ""
    peak_bytes: float = 0
    prefill_peak_bytes: float | None = None
    decode_peak_bytes: float | None = None
    kv_cache_bytes: float = 0
    largest_batch: int | None = None
    saturation: Saturation | None = None
    merged_rows: int = 0
    operators: Sequence[str] = ()
    kernels: Sequence[str] = ()
    counted_flops: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, body: TimedBody, version: str, total: int | None) -> TimedCell:
        """`total`: visual tokens of the whole input, where that is known."""
        cell = Cell.parse(body["cell"])
        if body["status"] != "ok":
            return cls(**outcome(body, cell, (), None), seconds={}, version=version)
        ledger = ledger_of(body["ledger"])
        attention = body.get("attention")
        return cls(
            **outcome(body, cell, ledger, _broken(cell, ledger, total)),
            seconds=body["raw_seconds"],
            version=version,
            peak_kind=body["peak_kind"],
            peak_bytes=body["peak_bytes"],
            prefill_peak_bytes=body.get("prefill_peak_bytes"),
            decode_peak_bytes=body.get("decode_peak_bytes"),
            kv_cache_bytes=body["kv_cache_bytes"],
            largest_batch=body["largest_batch"]["batch"] if "largest_batch" in body else None,
            saturation=Saturation.of(body["saturation"]) if "saturation" in body else None,
            merged_rows=body.get("merged_rows", 0),
            operators=attention["operators"] if attention else (),
            kernels=attention["kernels"] if attention else (),
            counted_flops=body.get("counted_flops", {}),
        )

    def raw(self, phase: str) -> Sequence[Any]:
        """Seconds of each round, or a list of several of each; empty where it was not held."""
        return self.seconds.get(phase) or ()

    def rounds(self, phase: str) -> list[float]:
        """Seconds of each round; of several in a round their median."""
        return [median(x) if isinstance(x, Sequence) else x for x in self.raw(phase)]

    @property
    def phases(self) -> tuple[str, ...]:
        """Those that it holds, in their order."""
        return tuple(phase.name for phase in PHASES if phase.name in self.seconds)


def _broken(cell: Cell, ledger: Sequence[LedgerRow], total: int | None) -> str | None:
    """Why the counts may not be printed as the budget's: rows that were not cut may have fewer."""
    published = ("schedule", "published") in cell.method.settings
    whole = {i for i, row in enumerate(ledger) if set(row.entering) == {total}}
    return broken_promise(ledger, cell.tokens, published, whole)
