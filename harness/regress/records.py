"""Two sets of records, cell by cell: every finding, in the order of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

from harness.errors import BadInput, sentence
from harness.records.cell import Cell
from harness.records.record import Record
from harness.records.result import Result
from harness.regress import sources
from harness.regress.exact import answered, counted_findings, exact, sample_findings, timed
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.paired import accuracy_finding, with_verdicts
from harness.regress.ratio import Against, time_findings
from harness.regress.sources import Pair, Runs


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
        cells.setdefault(pair.before.cell.text, []).append(pair)
    found = [finding for cell, pairs in cells.items() for finding in _answered(cell, pairs)]
    accuracy = with_verdicts([f for f in found if f.kind is Kind.PAIRED], limits.tolerance)
    found = [f for f in found if f.kind is not Kind.PAIRED] + accuracy
    found += [finding for pair in times for finding in _timed(pair, limits)]
    lone = sources.unmatched(before, after).items()
    found += [not_comparable(cell, "answers", Kind.EXACT, why) for cell, why in lone]
    return sorted(found, key=lambda finding: Cell.parse(finding.cell).order)


def _answered(cell: str, pairs: Sequence[Pair]) -> Iterator[Finding]:
    held = [pair for pair in pairs if _counted(pair.before, pair.after)]
    for pair in pairs:
        if pair not in held:
            yield _status(cell, f"status of {pair.before.task}", pair.before, pair.after)
    if held:
        before, after = answered([p.before for p in held]), answered([p.after for p in held])
        counts = counted_findings(cell, before, after)
        yield from _with_promise(cell, counts, [pair.after for pair in held])
        yield from sample_findings(cell, held)
        yield accuracy_finding(cell, held)


def _timed(pair: Runs, limits: Limits) -> Iterator[Finding]:
    """A cell of FLOPs is the same cell where other tokens cost as much."""
    ours = {timed.cell.asked: timed for timed in pair.after.cells}
    theirs_upper, ours_upper = pair.before.unpruned, pair.after.unpruned
    place = sources.place_difference(*pair)
    for before in pair.before.cells:
        cell, after = before.cell.text, ours.get(before.cell.asked)
        if after is None:
            yield not_comparable(cell, "times", Kind.RATIO, "not timed in the current run")
        elif not _counted(before, after):
            yield _status(cell, "status of timing", before, after)
        else:
            sides = timed(before, pair.before), timed(after, pair.after)
            yield from _with_promise(cell, counted_findings(cell, *sides, "timed "), [after])
            yield exact(cell, "KV bytes", before.kv_cache_bytes, after.kv_cache_bytes)
            if theirs_upper and ours_upper and after.is_ok and not before.cell.is_unpruned:
                against = Against(before, theirs_upper), Against(after, ours_upper)
                yield from time_findings(*against, place, limits.max_slowdown)


def _counted(before: Result, after: Result) -> bool:
    """Whether counts can be compared: also those that broke their promise, where they did not."""
    return before.is_ok and (after.is_ok or bool(after.broken and after.ledger))


def _with_promise(
    cell: str, findings: Iterable[Finding], after: Sequence[Result]
) -> Iterator[Finding]:
    """A promise that is broken now is the reason of what differs, or what differs itself."""
    broken = next((str(result.reason) for result in after if result.broken), "")
    found = list(findings)
    for finding in found:
        worse = broken and finding.verdict is Verdict.WORSE
        yield replace(finding, why=f"{finding.why}; {broken}".lstrip("; ")) if worse else finding
    if broken and not any(finding.verdict is Verdict.WORSE for finding in found):
        yield exact(cell, "promise", "kept", "broken", broken)


def _status(cell: str, quantity: str, before: Result, after: Result) -> Finding:
    statuses = before.status, after.status
    why = sentence(after.reason or "")
    if statuses == ("failed", "failed"):
        return not_comparable(cell, quantity, Kind.EXACT, f"failed in both: {why}")
    if statuses == ("failed", "ok"):
        return Finding(cell, quantity, Kind.EXACT, Verdict.BETTER, *statuses)
    return exact(cell, quantity, *statuses, why)
