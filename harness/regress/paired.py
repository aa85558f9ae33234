"""Accuracy on the same questions: a test and an interval of the paired difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.outcomes import Outcomes, Scores
from harness.record import Record
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.sources import Pair
from harness.stats import SIGNIFICANCE, holm, mean_of, paired_difference

QUANTITY = "accuracy"


def accuracy_finding(cell: str, pairs: Sequence[Pair]) -> Finding:
    """Mean of the task means before and after; p is not yet corrected, the verdict not yet final.

    Where every image has one question that is right or wrong, the test is McNemar's.
    """
    scales = [_scale([pair.before, pair.after]) for pair in pairs]
    before = _outcomes([pair.before for pair in pairs], scales)
    after = _outcomes([pair.after for pair in pairs], scales)
    if any(set(before[task].items) != set(after[task].items) for task in before):
        return not_comparable(cell, QUANTITY, Kind.PAIRED, "the questions differ")
    found = paired_difference(after, before)
    scores = mean_of(before), mean_of(after)
    return Finding(cell, QUANTITY, Kind.PAIRED, Verdict.SAME, *scores, found, found.p)


def with_verdicts(findings: Sequence[Finding], tolerance: float | None) -> list[Finding]:
    """With Holm's correction over these cells, and verdicts.

    Without a `tolerance` a significant difference decides. With one, a cell is worse unless its
    interval excludes a loss of more than `tolerance` points.
    """
    tested = [f for f in findings if f.verdict is not Verdict.NOT_COMPARABLE]
    corrected = dict(zip(map(id, tested), holm([f.p for f in tested]), strict=True))
    return [
        _judged(replace(f, p=corrected[id(f)]), tolerance) if id(f) in corrected else f
        for f in findings
    ]


def _judged(finding: Finding, tolerance: float | None) -> Finding:
    significant = finding.p < SIGNIFICANCE
    loss = significant and finding.difference.value < 0
    if tolerance is not None and not finding.difference.low >= -tolerance:
        why = f"a loss of more than {tolerance:g} is not excluded"
        return replace(finding, verdict=Verdict.WORSE, why=why)
    if loss and tolerance is not None:
        return replace(finding, why=f"significant, but no worse than by {tolerance:g}")
    if significant:
        return replace(finding, verdict=Verdict.WORSE if loss else Verdict.BETTER)
    if finding.difference.low > 0 or finding.difference.high < 0:
        return replace(finding, why="significant by itself, but not among so many cells")
    return finding


def _scale(records: Iterable[Record]) -> float:
    """Percent where a task's scores are shares."""
    scores = [sample["score"] for record in records for sample in record["samples"]]
    return 100.0 if all(0 <= score <= 1 for score in scores) else 1.0


def _outcomes(records: Sequence[Record], scales: Sequence[float]) -> Outcomes:
    return {
        record["identity"]["task"]: Scores.of(
            [(str(s["item"]), str(s["image"]), s["score"]) for s in record["samples"]]
        ).scaled(scale)
        for record, scale in zip(records, scales, strict=True)
    }
