"""One row a method, budget and benchmark: the accuracy table for programs."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.blocks import configuration_names
from harness.analysis.outcomes import Outcomes
from harness.analysis.rows import Row, rows_of, unpruned_of
from harness.analysis.stats import mean_interval, paired_difference
from harness.analysis.task_scores import Column as Shown
from harness.analysis.task_scores import columns_of
from harness.records.record import AccuracyRecord
from harness.tables import numbers
from harness.tables.table import Column, Parts, Table, separate

HOW_TO_READ = (
    "Score: in brackets its 95 % interval over images. Difference: to unpruned on the same "
    "questions; p of a sign-flip test over images, for each row by itself, and in brackets the "
    "differences that it does not reject at 5 %."
)


def long_table(configurations: Sequence[Sequence[AccuracyRecord]]) -> Table:
    """All configurations below one another."""
    rows: list[tuple[Parts, ...]] = []
    sections = set()
    failed = False
    for records, name in zip(configurations, configuration_names(configurations), strict=True):
        columns = columns_of(records)
        found = rows_of(records)
        upper = unpruned_of(found)
        sections.add(len(rows))
        rows += [_cells(name, row, column, upper) for row in found for column in columns]
        failed |= any(row.failed for row in found)
    notes = (HOW_TO_READ, *(numbers.origin(records) for records in configurations))
    return Table(
        "Accuracy by benchmark", _columns(), tuple(rows), frozenset(sections), notes, failed
    )


def _columns() -> tuple[Column, ...]:
    return (
        Column("Model", ("model",), left=True),
        Column("Method", ("method",), left=True),
        Column("Budget", ("budget",)),
        Column("Benchmark", ("task",), left=True),
        Column("Questions", ("questions",)),
        Column("Tokens", ("counted_tokens",)),
        Column("Score", ("score", "score_low", "score_high"), _lines),
        Column("Difference", ("diff", "diff_low", "diff_high"), _lines),
        Column("p", ("p",)),
        Column("Note", ("note",), left=True, optional=True),
    )


def _lines(parts: Parts) -> list[str]:
    value, low, high = parts
    return separate((value, f"[{low}, {high}]" if low else ""))


def _cells(model: str, row: Row, column: Shown, upper: Row | None) -> tuple[Parts, ...]:
    task = column.name
    ours = _of(row, task)
    head: tuple[Parts, ...] = ((model,), (row.label,), (row.asked.budget_label,), (task,))
    if not ours:
        return (*head, (), (), (), (), (), (row.note or "not measured",))
    theirs = _of(upper, task) if upper and upper is not row else {}
    difference: Parts = ()
    p = ""
    if theirs:
        found = paired_difference(ours, theirs)
        difference, p = numbers.estimate(found, sign=True), numbers.number(found.p, 4)
    score = numbers.estimate(mean_interval(ours))
    tokens = numbers.number(row.tokens)
    return (
        *head,
        (str(row.questions[column.task]),),
        (tokens,),
        score,
        difference,
        (p,),
        (row.note,),
    )


def _of(row: Row, task: str) -> Outcomes:
    known = {**row.outcomes, **row.others}
    return {task: known[task]} if task in known else {}
