"""One number a question out of what lmms-eval logs, and the metric that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from harness.answers import SampleError


def scored(
    name: str, task: Any, results: Mapping[str, Any]
) -> tuple[str, dict[int, tuple[dict, float]]]:
    """The metric, and each document's logged sample and score.

    The metric is the first of the task's that gives every question a number, whose mean lmms-eval
    prints, as such or in percent. Raises ValueError where there is none.
    """
    logged = {sample["doc_id"]: sample for sample in reversed(results["samples"][name])}
    names = [metric["metric"] for metric in task.config.metric_list or []]
    for metric in sorted(names, key=lambda metric: metric != "acc"):
        scores = {i: number(sample.get(metric)) for i, sample in sorted(logged.items())}
        present = [score for score in scores.values() if score is not None]
        if len(present) < len(scores) or not _is_mean(present, metric, results["results"][name]):
            continue
        return metric, {i: (logged[i], score) for i, score in scores.items() if score is not None}
    raise ValueError(
        f"task {name!r} has no metric that is a mean of one number a question "
        f"({', '.join(map(str, names))}), so its answers cannot be compared item by item"
    )


def number(value: Any) -> float | None:
    """A question's score, also from a mapping's "score", as several tasks of lmms-eval give it."""
    if isinstance(value, Mapping):
        value = value.get("score")
    return float(value) if isinstance(value, Real) else None


def _is_mean(scores: Sequence[float], metric: str, results: Mapping[str, Any]) -> bool:
    mean = sum(scores) / len(scores)
    printed = [v for k, v in results.items() if k.split(",")[0] == metric and isinstance(v, Real)]
    return any(abs(float(v) - mean * scale) <= 1e-6 * scale for v in printed for scale in (1, 100))


def running_score(name: str, task: Any, doc_id: int, answer: str) -> float | None:
    """The score of one answer by the task's own function, which must give "acc"."""
    try:
        return number(task.config.process_results(task.eval_docs_no_media[doc_id], [answer])["acc"])
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise SampleError(f"{name}/{doc_id}: scoring failed: {cause}") from error
