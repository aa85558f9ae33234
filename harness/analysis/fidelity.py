"""How close a pruned model's answers are to the unpruned model's, item by item.

Every quantity is an outcome an item, so that means and intervals are made as those of accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.metrics import METRICS
from harness.analysis.outcomes import Outcomes, Scores, averaged
from harness.records.cell import Asked
from harness.records.record import AccuracyRecord
from harness.records.samples import Answer

Fidelity = Mapping[str, Outcomes]
"""By the names of `METRICS`."""
Answers = Mapping[str, Mapping[str, Answer]]
"""By task and item."""


def fidelity_of(records: Sequence[AccuracyRecord]) -> dict[Asked, Fidelity]:
    """Of what each cell but its seed asks, of whole records of one configuration; empty without
    unpruned.

    Seeds of a method are averaged question by question.
    """
    upper = unpruned_answers(records)
    groups: dict[Asked, dict[int, list[AccuracyRecord]]] = {}
    for record in records:
        if upper and record.is_ok and not record.cell.is_unpruned:
            seeds = groups.setdefault(record.cell.asked, {})
            seeds.setdefault(record.cell.seed, []).append(record)
    return {asked: _fidelity(list(seeds.values()), upper) for asked, seeds in groups.items()}


def unpruned_answers(records: Sequence[AccuracyRecord]) -> Answers:
    """What the unpruned model answered in these records."""
    done = (record for record in records if record.is_ok and record.cell.is_unpruned)
    return {record.task: record.samples.by_item for record in done}


def compared(record: AccuracyRecord, upper: Answers) -> dict[str, list[float | None]]:
    """By metric, of each question in the record's order; None where there is nothing to say."""
    ours, theirs = record.samples.by_item, upper.get(record.task, {})
    pairs = [(ours[item], theirs.get(item)) for item in record.samples.items]
    return {
        name: [metric.of(our, their) if their else None for our, their in pairs]
        for name, metric in METRICS.items()
    }


def _fidelity(by_seed: Sequence[Sequence[AccuracyRecord]], upper: Answers) -> Fidelity:
    seeds = [{r.task: (r, compared(r, upper)) for r in records} for records in by_seed]
    return {name: averaged([_outcomes(seed, name) for seed in seeds]) for name in METRICS}


def _outcomes(
    by_task: Mapping[str, tuple[AccuracyRecord, Mapping[str, Sequence[float | None]]]], name: str
) -> Outcomes:
    """One metric's values of the questions of which it says something."""
    found = {}
    for task, (record, values) in by_task.items():
        columns = zip(record.samples.items, record.samples.images, values[name], strict=True)
        rows = [(item, image, value) for item, image, value in columns if value is not None]
        if rows:
            found[task] = Scores.of(rows)
    return found
