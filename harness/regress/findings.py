"""What the gate has to say of one quantity of one cell. Knows no record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import nan

from harness.analysis.stats import NOTHING, Estimate


class Verdict(StrEnum):
    """A difference of an exact quantity is always `WORSE`: it should not be there."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    NOT_COMPARABLE = "not comparable"


class Kind(StrEnum):
    """How a quantity is compared."""

    EXACT = "exact"
    PAIRED = "paired"
    RATIO = "ratio"


@dataclass(frozen=True)
class Finding:
    """`difference` is in the quantity's own unit, for a ratio relative to `before`; `why` says what
    differs, or why nothing can be said.
    """

    cell: str
    quantity: str
    kind: Kind
    verdict: Verdict
    before: float | str | None = None
    after: float | str | None = None
    difference: Estimate = NOTHING
    p: float = nan
    why: str = ""


def not_comparable(cell: str, quantity: str, kind: Kind, why: str) -> Finding:
    return Finding(cell, quantity, kind, Verdict.NOT_COMPARABLE, why=why)
