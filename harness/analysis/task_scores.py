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
from harness.records.file import Record
from harness.records.task_metrics import PERCENT, TASK_METRICS, Metric, metrics_of


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
        return f"{self.task.removeprefix('embedded_')} {self.metric.title}".strip()

    @property
    def unit(self) -> str:
        if self.metric.scale is None:
            return "%" if self.scale == PERCENT else ""
        return self.metric.unit

    def scores(self, record: Record) -> Scores:
        """Of one finished record of the task."""
        if self.by_question:
            return _by_question(record).scaled(self.scale)
        found = record["metrics"][self.metric.name]
        return _by_group(self.name, found["value"], found["without"]).scaled(self.scale)


def columns_of(records: Iterable[Record]) -> list[Column]:
    """Of all tasks of the records, by task; each task's first metric comes first."""
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_task.setdefault(record["identity"]["task"], []).append(record)
    return [column for task in sorted(by_task) for column in _columns(task, by_task[task])]


def in_one_unit(columns: Iterable[Column]) -> bool:
    """Whether the tasks' first scores can be averaged."""
    return len({column.unit for column in columns if column.first}) <= 1


def without_interval(record: Record) -> str:
    """Why a shown score of a finished record has no interval; empty where all have one."""
    reasons = {
        name: found["why"] for name, found in record.get("metrics", {}).items() if found["why"]
    }
    return "; ".join(f"no interval for {name}: {why}" for name, why in reasons.items())


def _columns(task: str, records: Sequence[Record]) -> list[Column]:
    done = [record for record in records if record["status"] == "ok"]
    held = [record for record in done if "metrics" in record]
    if len(held) < len(done) or not held:
        return [Column(task, _only_metric(task, done), True, _scale_of_scores(done), True)]
    metrics = [m for m in metrics_of(task, list(held[0]["metrics"])) if _in_all(m, held)]
    by_question = _by_questions(metrics[0], held)
    return [
        Column(task, metrics[0], True, _scale(metrics[0], held, by_question), by_question),
        *(
            Column(task, metric, False, _scale(metric, held, False), False)
            for metric in metrics[1:]
        ),
    ]


def _only_metric(task: str, records: Sequence[Record]) -> Metric:
    """Of records that hold one score a question and no more, as all did before."""
    names = {record.get("metric", "score") for record in records}
    known = [metric for metric in TASK_METRICS.get(task, ()) if {metric.name} == names]
    return replace(known[0], scale=None) if known else Metric("score", None)


def _in_all(metric: Metric, records: Sequence[Record]) -> bool:
    return all(metric.name in record["metrics"] for record in records)


def _by_questions(metric: Metric, records: Sequence[Record]) -> bool:
    """Whether every cell's score is the mean of its questions': then all are compared by them."""
    return all(record["metrics"][metric.name]["per_question"] is not None for record in records)


def _scale(metric: Metric, records: Sequence[Record], by_question: bool) -> float:
    """What makes a printed number of a question's, or of lmms-eval's, which may be in percent."""
    found = [record["metrics"][metric.name] for record in records]
    if metric.scale is not None:
        return metric.scale * (found[0]["per_question"] if by_question else 1.0)
    if by_question:
        return _scale_of_scores(records)
    return PERCENT if all(abs(f["value"]) <= 1 for f in found) else 1.0


def _scale_of_scores(records: Sequence[Record]) -> float:
    scores = [sample["score"] for record in records for sample in record["samples"]]
    return PERCENT if all(0 <= score <= 1 for score in scores) else 1.0


def _by_question(record: Record) -> Scores:
    return Scores.of([(str(s["item"]), str(s["image"]), s["score"]) for s in record["samples"]])


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
