"""Time and memory as the ratio of a method to unpruned in the same rounds, never as such.

What slows a whole machine down cancels in a ratio; what differs between machines does not, so runs
on different ones are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.speed import rounds
from harness.analysis.stats import Estimate
from harness.records.phases import SHOWN
from harness.records.timed import TimedCell
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.significance import change_of_medians

FEWEST_ROUNDS = 10
"""With fewer, a commit compared with itself raised alarms too often (`results/same-commit.txt`)."""

SELECTION_ALLOWANCE = 10
"""Times the allowed slowdown. A selection takes milliseconds, which vary far more from run to run;
what it costs is in the prefill, too."""

Array = NDArray[np.float64]


class Against(NamedTuple):
    """A cell, and the unpruned cell of the same run."""

    cell: TimedCell
    upper: TimedCell


def time_findings(
    before: Against, after: Against, place: str, max_slowdown: float
) -> Iterator[Finding]:
    """Each phase of one cell, then its peak memory; `place`: what differs between the machines."""
    cell, theirs, ours = before.cell.cell.text, _ratios(before), _ratios(after)
    for phase in theirs:
        quantity = phase.replace("_", " ") + " ×"
        if place:
            yield not_comparable(cell, quantity, Kind.RATIO, place)
        elif phase not in ours:
            yield not_comparable(cell, quantity, Kind.RATIO, "not measured in the current run")
        else:
            allowed = max_slowdown * (SELECTION_ALLOWANCE if phase == "selection" else 1)
            yield ratio_finding(cell, quantity, (ours[phase],), (theirs[phase],), allowed)
    yield _memory(before, after, place, max_slowdown)


def ratio_finding(
    cell: str,
    quantity: str,
    after: Sequence[Array],
    before: Sequence[Array],
    max_slowdown: float,
) -> Finding:
    """Worse where the whole interval of the change lies above `max_slowdown`.

    `after` and `before` as `change_of_medians` takes them.
    """
    rounds = min(len(sample) for sample in (*after, *before))
    if rounds < FEWEST_ROUNDS:
        why = f"{rounds} rounds, at least {FEWEST_ROUNDS} are needed"
        return not_comparable(cell, quantity, Kind.RATIO, why)
    change = change_of_medians(after, before)
    verdict = _verdict(change, max_slowdown)
    return Finding(cell, quantity, Kind.RATIO, verdict, _ratio(before), _ratio(after), change)


def _verdict(change: Estimate, max_slowdown: float) -> Verdict:
    if change.low > max_slowdown:
        return Verdict.WORSE
    return Verdict.BETTER if change.high < -max_slowdown else Verdict.SAME


def _ratio(samples: Sequence[Array]) -> float:
    medians = [float(np.median(sample)) for sample in samples]
    return medians[0] if len(medians) == 1 else medians[0] / medians[1]


def _ratios(timed: Against) -> dict[str, Array]:
    """float64 [rounds] by phase; the selection is measured by unpruned's prefill, having none."""
    found = {}
    for phase in (phase.name for phase in SHOWN):
        ours = np.asarray(rounds(timed.cell, phase), dtype=np.float64)
        theirs = rounds(timed.upper, "prefill" if phase == "selection" else phase)
        if ours.any() and all(theirs):
            found[phase] = ours / np.asarray(theirs, dtype=np.float64)
    return found


def _memory(before: Against, after: Against, place: str, max_slowdown: float) -> Finding:
    """The peak that torch counts on a device, which is the same in every run.

    The peak of a process is one sample of a noisy quantity, and says nothing about a change.
    """
    cell, quantity = before.cell.cell.text, "peak memory ×"
    if place or before.cell.peak_kind != "device":
        why = place or "the process's peak is sampled once a run"
        return not_comparable(cell, quantity, Kind.RATIO, why)
    theirs, ours = (timed.peak_bytes / upper.peak_bytes for timed, upper in (before, after))
    change = ours / theirs - 1
    verdict = _verdict(Estimate(change, change, change), max_slowdown)
    difference = Estimate(change, nan, nan)
    return Finding(cell, quantity, Kind.RATIO, verdict, theirs, ours, difference)
