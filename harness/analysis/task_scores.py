"""The scores that tables show and test: of a task one column, or more where papers print more.

A score that is the mean of its questions is taken question by question. Of any other the records
hold what it is without each group of images; what a group adds follows from that, and makes
pseudo-scores whose mean is the score and whose spread is the score's own (the jackknife).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.outcomes import Scores
from harness.records.record import AccuracyRecord, TaskScore
from harness.records.task_metrics import PERCENT, TASK_METRICS, Metric, metrics_of


def short(task: str) -> str:
    """Its name without what the embedded tasks of images or of clips have in common."""
    return task.removeprefix("embedded_").removeprefix("video_")


@dataclass(frozen=True)
class Column:
    """`name` is the task's own for its first metric; `scale`: times what lmms-eval prints."""

    task: str
    metric: Metric
    first: bool
    scale: float
    by_question: bool

    @property
    def name(self) -> str:
        return self.task if self.first else f"{self.task} {self.metric.title}"

    @property
    def title(self) -> str:
        """What stands above the column."""
        return f"{short(self.task)} {self.metric.title}".strip()

    @property
    def unit(self) -> str:
        if self.metric.scale is None:
            return "%" if self.scale == PERCENT else ""
        return self.metric.unit

    def scores(self, record: AccuracyRecord) -> Scores:
        """Of one finished record of the task."""
        if self.by_question:
            return _by_question(record).scaled(self.scale)
        found = _score(record, self.metric)
        return _by_group(self.name, found.value, found.without).scaled(self.scale)


def columns_of(records: Iterable[AccuracyRecord]) -> list[Column]:
    """Of all tasks of the records, by task; each task's first metric comes first."""
    by_task: dict[str, list[AccuracyRecord]] = {}
    for record in records:
        by_task.setdefault(record.task, []).append(record)
    return [column for task in sorted(by_task) for column in _columns(task, by_task[task])]


def in_one_unit(columns: Iterable[Column]) -> bool:
    """Whether the tasks' first scores can be averaged."""
    return len({column.unit for column in columns if column.first}) <= 1


def without_interval(record: AccuracyRecord) -> str:
    """Why a shown score of a finished record has no interval; empty where all have one."""
    reasons = {name: found.why for name, found in (record.metrics or {}).items() if found.why}
    return "; ".join(f"no interval for {name}: {why}" for name, why in reasons.items())


def _columns(task: str, records: Sequence[AccuracyRecord]) -> list[Column]:
    done = [record for record in records if record.is_ok]
    held = [record for record in done if record.metrics is not None]
    if len(held) < len(done) or not held:
        return [Column(task, _only_metric(task, done), True, _scale_of_scores(done), True)]
    metrics = [m for m in metrics_of(task, list(held[0].metrics or ())) if _in_all(m, held)]
    by_question = _by_questions(metrics[0], held)
    return [
        Column(task, metrics[0], True, _scale(metrics[0], held, by_question), by_question),
        *(
            Column(task, metric, False, _scale(metric, held, False), False)
            for metric in metrics[1:]
        ),
    ]


def _only_metric(task: str, records: Sequence[AccuracyRecord]) -> Metric:
    """Of records that hold one score a question and no more, as all did before."""
    names = {record.metric for record in records}
    known = [metric for metric in TASK_METRICS.get(task, ()) if {metric.name} == names]
    return replace(known[0], scale=None) if known else Metric("score", None)


def _in_all(metric: Metric, records: Sequence[AccuracyRecord]) -> bool:
    return all(metric.name in (record.metrics or ()) for record in records)


def _score(record: AccuracyRecord, metric: Metric) -> TaskScore:
    return (record.metrics or {})[metric.name]


def _by_questions(metric: Metric, records: Sequence[AccuracyRecord]) -> bool:
    """Whether every cell's score is the mean of its questions': then all are compared by them."""
    return all(_score(record, metric).per_question is not None for record in records)


def _scale(metric: Metric, records: Sequence[AccuracyRecord], by_question: bool) -> float:
    """What makes a printed number of a question's, or of lmms-eval's, which may be in percent."""
    found = [_score(record, metric) for record in records]
    if metric.scale is not None:
        per_question = found[0].per_question if by_question else None
        return metric.scale * (1.0 if per_question is None else per_question)
    if by_question:
        return _scale_of_scores(records)
    return PERCENT if all(abs(f.value) <= 1 for f in found) else 1.0


def _scale_of_scores(records: Sequence[AccuracyRecord]) -> float:
    scores = (score for record in records for score in record.samples.scores)
    return PERCENT if all(score is None or 0 <= score <= 1 for score in scores) else 1.0


def _by_question(record: AccuracyRecord) -> Scores:
    samples = record.samples
    return Scores(samples.items, samples.images, np.array(samples.scores, dtype=np.float64))


def _by_group(name: str, value: float, without: Sequence[float] | None) -> Scores:
    """float64 [groups] whose mean is `value`; one of it where no group was left out."""
    if not without:
        return Scores.of([(name, name, value)])
    added = value - np.asarray(without, dtype=np.float64)
    if np.isclose(added.sum(), value):  # a sum: what leaves with a group is what it adds
        values = len(added) * added
    else:
        values = value + (len(added) - 1) * (added - added.mean())
    groups = tuple(f"{name}#{g}/{len(added)}" for g in range(len(added)))
    return Scores(groups, groups, values)
