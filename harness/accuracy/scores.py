"""What lmms-eval logs and prints of a task, as a record keeps it: a score, and its parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from time import perf_counter, process_time
from typing import Any

from harness.accuracy.aggregation import Items, aggregated, left_out
from harness.accuracy.answers import SampleError
from harness.accuracy.generated import Answer
from harness.embedded import benchmarks
from harness.records.piece import OnItem
from harness.records.task_metrics import Metric, metrics_of

SCALES = (1.0, 100.0)
"""Of a mean: as such, or in percent."""
ROUNDED = 1e-5
"""lmms-eval rounds some of its scores to so much."""
QUICK = 0.02
"""Seconds that an aggregation may work which is asked for a question's own score."""
PATIENCE = 0.5
"""And seconds that it may take: to wait for other programs, but not for a busy machine."""


@dataclass(frozen=True)
class Scored:
    """`metric`: the first of the task's; `metrics` as `described` gives them; `printed`: all that
    lmms-eval prints, by its names; `samples`: each document's logged sample and number, None where
    it has none.
    """

    metric: str
    metrics: dict[str, dict[str, Any]]
    printed: dict[str, float]
    samples: dict[int, tuple[dict[str, Any], float | None]]


def scored(name: str, task: Any, results: Mapping[str, Any], images: Mapping[int, str]) -> Scored:
    """`images`: each document's. Raises ValueError where lmms-eval prints no number to show."""
    logged = {sample["doc_id"]: sample for sample in reversed(results["samples"][name])}
    names = metric_names(task)
    printed = _printed(results["results"][name])
    shown = metrics_of(name, names)
    items: Items = {
        part: {i: logged[i][part] for i in sorted(logged) if part in logged[i]} for part in names
    }
    numbers = {metric.name: _numbers(task, metric, items) for metric in shown}
    metrics = {
        metric.name: described(name, task, metric, items, printed, images, numbers[metric.name])
        for metric in shown
    }
    first = numbers[shown[0].name]
    samples = {i: (logged[i], first.get(i)) for i in sorted(logged)}
    return Scored(shown[0].name, metrics, printed, samples)


def metric_names(task: Any) -> list[str]:
    return [metric["metric"] for metric in task.config.metric_list or []]


def described(
    name: str,
    task: Any,
    metric: Metric,
    items: Items,
    printed: Mapping[str, float],
    images: Mapping[int, str],
    numbers: Mapping[int, float],
) -> dict[str, Any]:
    """`value`: what lmms-eval prints; `per_question`: times what it is the mean of the questions'
    numbers, None where it is not; `without` and `why`: see `aggregation.left_out`.
    """
    values = [printed[part] for part in metric.parts if part in printed]
    if not values:
        raise ValueError(f"lmms-eval prints no number for {metric.name} of task {name!r}")
    value = float(sum(values))
    complete = len(numbers) == len(images)
    scale = _scale_of_mean(value, list(numbers.values())) if complete else None
    known = {"value": value, "per_question": scale}
    if scale is not None and _is_plain_mean(task, metric):
        return {**known, "without": None, "why": None}
    return {**known, **left_out(task, metric, items, images)}


def _numbers(task: Any, metric: Metric, items: Items) -> dict[int, float]:
    """The number that each question got for the metric: as such, or as the score of it alone."""
    given = {i: (part, item) for part in metric.parts for i, item in items.get(part, {}).items()}
    found = {i: number(item) for i, (_, item) in sorted(given.items())}
    if all(value is None for value in found.values()):
        found = _each_alone(task, given)
    return {i: value for i, value in found.items() if value is not None}


def _each_alone(task: Any, given: Mapping[int, tuple[str, Any]]) -> dict[int, float | None]:
    found: dict[int, float | None] = {}
    for i, (part, item) in sorted(given.items()):
        started, worked = perf_counter(), process_time()
        try:
            found[i] = number(aggregated(task, Metric(part), {part: {i: item}}))
        except Exception:  # a score of several questions only, which `left_out` tells apart
            return {}
        if process_time() - worked > QUICK or perf_counter() - started > PATIENCE:
            return {}
    return found


def _scale_of_mean(value: float, scores: Sequence[float]) -> float | None:
    mean = math.fsum(scores) / len(scores) if scores else math.nan
    return next((s for s in SCALES if abs(value - mean * s) <= ROUNDED * s), None)


def _is_plain_mean(task: Any, metric: Metric) -> bool:
    function = task.aggregation().get(metric.name)
    return getattr(function, "__module__", "") == "lmms_eval.api.metrics" and (
        function.__name__ == "mean"
    )


def number(value: Any) -> float | None:
    """A question's score, also from a mapping's "score", as several tasks of lmms-eval give it."""
    if isinstance(value, Mapping):
        value = value.get("score")
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _printed(results: Mapping[str, Any]) -> dict[str, float]:
    """By metric, without the filter's name; the first filter's where there are several."""
    found: dict[str, float] = {}
    for key, value in results.items():
        metric, _, _ = key.partition(",")
        if isinstance(value, Real) and "_stderr" not in metric and math.isfinite(value):
            found.setdefault(metric, float(value))
    return found


def teller(
    name: str, task: Any, answers: dict[int, Answer], on_item: OnItem | None
) -> Callable[[str, int, Answer], None]:
    """Collects answers, and scores those of embedded tasks at once, for a running mean.

    Other tasks may ask a paid judge, so they are scored once, by lmms-eval.
    """

    def tell(_: str, doc_id: int, answer: Answer) -> None:
        answers[doc_id] = answer
        if on_item is not None:
            own = name in benchmarks.TASKS
            on_item(running_score(name, task, doc_id, answer.text) if own else None)

    return tell


def running_score(name: str, task: Any, doc_id: int, answer: str) -> float | None:
    """The score of one answer by the task's own function, which must give "acc"."""
    try:
        return number(task.config.process_results(task.eval_docs_no_media[doc_id], [answer])["acc"])
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise SampleError(f"{name}/{doc_id}: scoring failed: {cause}") from error
