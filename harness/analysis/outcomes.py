"""What was answered, and how well: scores by task, item and image. Knows nothing of records.

Kept as columns, since a table pairs some hundred thousand answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """One task's answered questions: float64 [questions] `values`, and what each is about.

    A question is named by its item; several may be about one image.
    """

    items: tuple[str, ...]
    images: tuple[str, ...]
    values: Array

    @classmethod
    def of(cls, rows: Sequence[tuple[str, str, float]]) -> Scores:
        """Of (item, image, score) rows."""
        items, images, values = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(items, images, np.array(values, dtype=np.float64))

    def scaled(self, factor: float) -> Scores:
        return replace(self, values=factor * self.values)


Outcomes = Mapping[str, Scores]
"""By task; a task without an answered question is left out."""


def differences(ours: Outcomes, theirs: Outcomes) -> Outcomes:
    """`ours` - `theirs` of every item that both answered."""
    both = {task: _difference(ours[task], theirs[task]) for task in ours if task in theirs}
    return {task: scores for task, scores in both.items() if scores.items}


def _difference(ours: Scores, theirs: Scores) -> Scores:
    if ours.items == theirs.items:
        return replace(ours, values=ours.values - theirs.values)
    others = dict(zip(theirs.items, theirs.values, strict=True))
    rows = zip(ours.items, ours.images, ours.values, strict=True)
    return Scores.of([(item, image, v - others[item]) for item, image, v in rows if item in others])


def relative(outcomes: Outcomes, whole: Mapping[str, float]) -> Outcomes:
    """Scores in percent of the task's `whole` mean; nothing where one of these is not above 0."""
    if any(whole.get(task, 0.0) <= 0 for task in outcomes):
        return {}
    return {task: scores.scaled(100 / whole[task]) for task, scores in outcomes.items()}


def averaged(runs: Sequence[Outcomes]) -> Outcomes:
    """Each question's mean score over the runs that answered it."""
    tasks = dict.fromkeys(task for run in runs for task in run)
    return {task: _averaged([run[task] for run in runs if task in run]) for task in tasks}


def _averaged(runs: Sequence[Scores]) -> Scores:
    if all(run.items == runs[0].items for run in runs):
        return replace(runs[0], values=np.mean([run.values for run in runs], axis=0))
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        for item, image, value in zip(run.items, run.images, run.values, strict=True):
            values[item, image].append(value)
    return Scores.of([(*about, float(np.mean(held))) for about, held in values.items()])
