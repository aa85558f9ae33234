"""Accuracy on the same questions: a test and an interval of the paired difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.analysis.outcomes import Outcomes
from harness.analysis.stats import SIGNIFICANCE, holm, mean_of, paired_difference
from harness.analysis.task_scores import Column, columns_of
from harness.records.record import AccuracyRecord
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.sources import Pair

QUANTITY = "accuracy"


def accuracy_finding(cell: str, pairs: Sequence[Pair]) -> Finding:
    """Mean of the task means before and after; p is not yet corrected, the verdict not yet final.

    Where every image has one question that is right or wrong, the test is McNemar's.
    """
    records = [record for pair in pairs for record in (pair.before, pair.after)]
    columns = {column.task: column for column in columns_of(records) if column.first}
    before = _outcomes([pair.before for pair in pairs], columns)
    after = _outcomes([pair.after for pair in pairs], columns)
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


def _outcomes(records: Sequence[AccuracyRecord], columns: Mapping[str, Column]) -> Outcomes:
    by_task = {record.task: record for record in records}
    return {task: columns[task].scores(record) for task, record in by_task.items()}
