"""Time and memory as the ratio of a method to unpruned in the same rounds, never as such.

What slows a whole machine down cancels in a ratio; what differs between machines does not, so runs
on different ones are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.speed import rounds
from harness.analysis.stats import Estimate
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.significance import change_of_medians
from harness.regress.sources import Pair, place_difference
from harness.tables.efficiency import PHASES

FEWEST_ROUNDS = 10
"""With fewer, a commit compared with itself raised alarms too often (`results/same-commit.txt`)."""

SELECTION_ALLOWANCE = 10
"""Times the allowed slowdown. A selection takes milliseconds, which vary far more from run to run;
what it costs is in the prefill, too."""

Measured = Mapping[str, Any]
Array = NDArray[np.float64]


def time_findings(pair: Pair, cell: str, max_slowdown: float) -> Iterator[Finding]:
    """Each phase of one cell, then its peak memory; nothing for unpruned, which is the measure."""
    before, after = (_ratios(_cell_of(r, cell), _upper(r)) for r in (pair.before, pair.after))
    place = place_difference(pair.before, pair.after)
    for phase in before:
        quantity = phase.replace("_", " ") + " ×"
        if place:
            yield not_comparable(cell, quantity, Kind.RATIO, place)
        elif phase not in after:
            yield not_comparable(cell, quantity, Kind.RATIO, "not measured in the current run")
        else:
            allowed = max_slowdown * (SELECTION_ALLOWANCE if phase == "selection" else 1)
            yield ratio_finding(cell, quantity, (after[phase],), (before[phase],), allowed)
    yield _memory(pair, cell, max_slowdown, place)


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


def _ratios(cell: Measured, upper: Measured) -> dict[str, Array]:
    """float64 [rounds] by phase; the selection is measured by unpruned's prefill, having none."""
    found = {}
    for phase in PHASES:
        ours = np.asarray(rounds(cell, phase), dtype=np.float64)
        theirs = rounds(upper, "prefill" if phase == "selection" else phase)
        if ours.any() and all(theirs):
            found[phase] = ours / np.asarray(theirs, dtype=np.float64)
    return found


def _memory(pair: Pair, cell: str, max_slowdown: float, place: str) -> Finding:
    """The peak that torch counts on a device, which is the same in every run.

    The peak of a process is one sample of a noisy quantity, and says nothing about a change.
    """
    quantity = "peak memory ×"
    ours, upper = _cell_of(pair.before, cell), _upper(pair.before)
    if place or ours["peak_kind"] != "device":
        why = place or "the process's peak is sampled once a run"
        return not_comparable(cell, quantity, Kind.RATIO, why)
    before = ours["peak_bytes"] / upper["peak_bytes"]
    after = _cell_of(pair.after, cell)["peak_bytes"] / _upper(pair.after)["peak_bytes"]
    change = after / before - 1
    verdict = _verdict(Estimate(change, change, change), max_slowdown)
    difference = Estimate(change, nan, nan)
    return Finding(cell, quantity, Kind.RATIO, verdict, before, after, difference)


def _cell_of(record: Mapping[str, Any], text: str) -> Measured:
    return next(cell for cell in record["cells"] if cell["cell"] == text)


def _upper(record: Mapping[str, Any]) -> Measured:
    return next(cell for cell in record["cells"] if cell["budget"] is None)
