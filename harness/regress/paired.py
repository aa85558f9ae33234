"""Accuracy on the same questions: a test and an interval of the paired difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.record import Record
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.significance import holm, mcnemar_p, sign_flip_p, sum_interval
from harness.regress.sources import Pair
from harness.stats import SIGNIFICANCE

QUANTITY = "accuracy"


@dataclass(frozen=True)
class _Question:
    task: str
    image: str
    before: float
    after: float


def accuracy_finding(cell: str, pairs: Sequence[Pair]) -> Finding:
    """Mean of the task means before and after; p is not yet corrected, the verdict not yet final.

    Questions about one image are not independent: differences are summed by image, and the test
    flips the signs of whole images. Where every image has one question that is right or wrong,
    this is McNemar's test, and is made as such.
    """
    scales = [_scale([pair.before, pair.after]) for pair in pairs]
    before = _scores([pair.before for pair in pairs], scales)
    after = _scores([pair.after for pair in pairs], scales)
    if before.keys() != after.keys():
        return not_comparable(cell, QUANTITY, Kind.PAIRED, "the questions differ")
    questions = [
        _Question(key[0], image, score, after[key][1]) for key, (image, score) in before.items()
    ]
    return Finding(
        cell,
        QUANTITY,
        Kind.PAIRED,
        Verdict.SAME,
        sum(_by_image(questions, [q.before for q in questions])),
        sum(_by_image(questions, [q.after for q in questions])),
        sum_interval(_by_image(questions, [q.after - q.before for q in questions])),
        _p(questions),
    )


def judged(findings: Sequence[Finding], tolerance: float | None) -> list[Finding]:
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
    return finding


def _scale(records: Iterable[Record]) -> float:
    """Percent where a task's scores are shares."""
    scores = [sample["score"] for record in records for sample in record["samples"]]
    return 100.0 if all(0 <= score <= 1 for score in scores) else 1.0


def _scores(
    records: Sequence[Record], scales: Sequence[float]
) -> dict[tuple[str, str], tuple[str, float]]:
    """Image and score by task and item."""
    return {
        (record["identity"]["task"], str(sample["item"])): (
            str(sample["image"]),
            sample["score"] * scale,
        )
        for record, scale in zip(records, scales, strict=True)
        for sample in record["samples"]
    }


def _by_image(questions: Sequence[_Question], values: Sequence[float]) -> list[float]:
    """What each image adds to the mean of the task means of `values`."""
    counts = Counter(question.task for question in questions)
    parts: dict[str, float] = {}
    for question, value in zip(questions, values, strict=True):
        share = value / counts[question.task] / len(counts)
        parts[question.image] = parts.get(question.image, 0.0) + share
    return list(parts.values())


def _p(questions: Sequence[_Question]) -> float:
    if _is_mcnemar(questions):
        gained = sum(q.after > q.before for q in questions)
        return mcnemar_p(gained, sum(q.after < q.before for q in questions))
    return sign_flip_p(_by_image(questions, [q.after - q.before for q in questions]))


def _is_mcnemar(questions: Sequence[_Question]) -> bool:
    alone = len({q.image for q in questions}) == len(questions)
    equal = len(set(Counter(q.task for q in questions).values())) == 1
    return alone and equal and all({q.before, q.after} <= {0.0, 100.0} for q in questions)
