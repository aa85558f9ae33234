"""Two sets of records, cell by cell: every finding, in the order of the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from harness import numbers
from harness.cells import Cell
from harness.errors import BadInput
from harness.record import Record
from harness.regress import sources
from harness.regress.exact import answered, counted_findings, exact, sample_findings, timed
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.paired import accuracy_finding, judged
from harness.regress.ratio import time_findings
from harness.regress.sources import Pair


@dataclass(frozen=True)
class Limits:
    """What is allowed: a relative slowdown, and a loss of accuracy in points, None for the test
    of any difference.
    """

    max_slowdown: float = 0.05
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance < inf:
            raise BadInput("--tolerance is a number of points from 0 up")


def record_findings(
    before: Sequence[Record], after: Sequence[Record], limits: Limits
) -> list[Finding]:
    """Raises sources.IncomparableError where the two were not asked the same."""
    answers = sources.answer_pairs(before, after)
    times = sources.time_pairs(before, after)
    cells: dict[str, list[Pair]] = {}
    for pair in answers:
        cells.setdefault(pair.before["cell"], []).append(pair)
    found = [finding for cell, pairs in cells.items() for finding in _answered(cell, pairs)]
    accuracy = judged([f for f in found if f.kind is Kind.PAIRED], limits.tolerance)
    found = [f for f in found if f.kind is not Kind.PAIRED] + accuracy
    found += [finding for pair in times for finding in _timed(pair, limits)]
    lone = sources.unmatched(before, after).items()
    found += [not_comparable(cell, "answers", Kind.EXACT, why) for cell, why in lone]
    return sorted(found, key=lambda finding: Cell.parse(finding.cell).order)


def _answered(cell: str, pairs: Sequence[Pair]) -> Iterator[Finding]:
    held = [p for p in pairs if p.before["status"] == p.after["status"] == "ok"]
    for pair in pairs:
        if pair not in held:
            name = f"status of {pair.before['identity']['task']}"
            yield _status(cell, name, pair.before, pair.after)
    if held:
        before, after = (answered(list(side)) for side in zip(*held, strict=True))
        yield from counted_findings(cell, before, after)
        yield from sample_findings(cell, held)
        yield accuracy_finding(cell, held)


def _timed(pair: Pair, limits: Limits) -> Iterator[Finding]:
    theirs, ours = ({c["cell"]: c for c in r["cells"]} for r in (pair.before, pair.after))
    upper = next((text for text, c in theirs.items() if c["budget"] is None), None)
    measured = upper in ours and theirs[upper]["status"] == ours[upper]["status"] == "ok"
    for cell, before in theirs.items():
        after = ours.get(cell)
        if after is None:
            yield not_comparable(cell, "times", Kind.RATIO, "not timed in the current run")
        elif not before["status"] == after["status"] == "ok":
            yield _status(cell, "status of timing", before, after)
        else:
            counts = timed(before, pair.before), timed(after, pair.after)
            yield from counted_findings(cell, counts[0], counts[1], "timed ")
            yield exact(cell, "KV bytes", before["kv_cache_bytes"], after["kv_cache_bytes"])
            if cell != upper and measured:
                yield from time_findings(pair, cell, limits.max_slowdown)


def _status(cell: str, quantity: str, before: Record, after: Record) -> Finding:
    statuses = before["status"], after["status"]
    why = numbers.sentence(after["reason"] or "")
    if statuses == ("failed", "failed"):
        return not_comparable(cell, quantity, Kind.EXACT, f"failed in both: {why}")
    if statuses == ("failed", "ok"):
        return Finding(cell, quantity, Kind.EXACT, Verdict.BETTER, *statuses)
    return exact(cell, quantity, *statuses, why)
