"""What a leaderboard shows of many record sets: entries that compare, best first.

A set is a directory of records. Its configurations are those of every table; two of them stand in
one table of the leaderboard where model, tasks, scores and questions are the same and were asked
alike (`SAME_QUESTIONS`). What does not compare is refused, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isnan
from pathlib import Path

from harness.analysis.blocks import Line
from harness.analysis.emphasis import Emphasis, Place, emphasised
from harness.analysis.rows import Row, flops_share, unpruned_of
from harness.analysis.stats import NOTHING, Estimate, mean_of
from harness.analysis.studies import Study, studies
from harness.analysis.task_scores import Column, columns_of
from harness.errors import BadInput
from harness.records.cell import Amount, Asked
from harness.records.file import file_name
from harness.records.groups import answers_of
from harness.records.identity import SAME_QUESTIONS
from harness.records.record import AccuracyRecord, Record

Sets = Mapping[Path, Sequence[Record]]
"""By directory."""


@dataclass(frozen=True)
class Source:
    """One configuration of a set, with its unpruned run over all tasks."""

    directory: Path
    study: Study
    upper: Row

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The first score of each task, which knows its metric and scale."""
        return tuple(column for column in columns_of(self.study.records) if column.first)


@dataclass(frozen=True)
class Entry:
    """A method at a budget, as one source measured it."""

    line: Line
    source: Source

    @property
    def asked(self) -> Asked:
        return self.line.row.asked

    @property
    def is_dirty(self) -> bool:
        """Whether a record of it was measured by code that no commit holds."""
        records = self.source.study.records
        return any(r.provenance.dirty for r in records if r.cell.asked == self.asked)

    @property
    def mean(self) -> float:
        """Over all tasks; NaN where it has not answered all."""
        return mean_of(self.line.values.get(self.source.study.overall, {}))

    @property
    def flops(self) -> float:
        """Share of unpruned's prefill FLOPs."""
        return flops_share(self.line.row, self.source.upper)

    @property
    def speedup(self) -> Estimate:
        """Of the prefill; NaN where the set has not timed it."""
        timings = self.source.study.timings
        return next((t.speedup for t in timings if t.asked == self.asked), NOTHING)


@dataclass(frozen=True)
class Ranking:
    """All entries at one budget, the best first; `bold` as in the paper's table."""

    heading: str
    entries: tuple[Entry, ...]
    bold: frozenset[Place]


@dataclass(frozen=True)
class Board:
    """Entries on one model and the same questions: unpruned, then from small budgets to large."""

    model: str
    sources: tuple[Source, ...]
    rankings: tuple[Ranking, ...]


def boards(sets: Sets) -> list[Board]:
    """By model, those of most tasks and questions first.

    Raises BadInput where counts broke their promise, where sets of one model name differ in its
    digest or in a task's version, and where a configuration lacks unpruned.
    """
    _refuse_broken(sets)
    _refuse_differing(sets)
    groups: dict[tuple[object, ...], list[Source]] = {}
    for source in _sources(sets):
        identity = source.study.records[0].identity
        key = identity.model, source.columns, *identity.values(SAME_QUESTIONS)
        groups.setdefault(key, []).append(source)
    found = [_board(sources) for sources in groups.values()]
    return sorted(found, key=lambda b: (b.model, -sum(b.sources[0].upper.questions.values())))


def _refuse_broken(sets: Sets) -> None:
    for directory, records in sets.items():
        for record in records:
            results = [record] if isinstance(record, AccuracyRecord) else record.cells
            for result in results:
                if result.broken:
                    name = directory / file_name(record.body)
                    raise BadInput(f"{name}: {result.cell.text} broke its promise: {result.reason}")


def _refuse_differing(sets: Sets) -> None:
    seen: dict[tuple[str, str], tuple[str, Path]] = {}
    for directory, records in sets.items():
        for record in records:
            path, identity = directory / file_name(record.body), record.identity
            told = [("the model's digest", identity.model_digest)]
            if identity.task:
                told.append((f"the version of {identity.task}", identity.task_version))
                asked = identity.documents or "all"
                told.append((f"which questions of {identity.task} are asked", asked))
                told.append((f"how many frames {identity.task} shows", str(identity.frames)))
            for what, value in told:
                other, first = seen.setdefault((identity.model, what), (value, path))
                if value != other:
                    raise BadInput(
                        f"{first} and {path} do not compare: of {identity.model}, {what} "
                        f"is {other[:16]} and {value[:16]}"
                    )


def _sources(sets: Sets) -> Iterator[Source]:
    for directory, records in sets.items():
        if not answers_of(records):
            raise BadInput(f"{directory} holds no answers; a leaderboard needs an accuracy run")
        for study in studies(records):
            upper = unpruned_of([line.row for block in study.blocks for line in block.lines])
            if upper is None:
                raise BadInput(
                    f"{directory} has no finished unpruned run of {study.name} over all tasks "
                    "of its configuration, so nothing there can be compared with it"
                )
            yield Source(directory, study, upper)


def _board(sources: Sequence[Source]) -> Board:
    amounts: dict[tuple[Amount | None, bool], list[Entry]] = {}
    headings: dict[tuple[Amount | None, bool], str] = {}
    for entry, heading in _entries(sources):
        amounts.setdefault(entry.asked.amount, []).append(entry)
        headings.setdefault(entry.asked.amount, heading)
    rankings = tuple(
        _ranking(headings[amount], amounts[amount])
        for amount in sorted(amounts, key=lambda amount: (amount[0] or 0, amount[1]))
    )
    return Board(sources[0].study.records[0].identity.model, tuple(sources), rankings)


def _entries(sources: Sequence[Source]) -> Iterator[tuple[Entry, str]]:
    """With the headings of their blocks; of copies in several sets the first."""
    seen = set()
    for source in sources:
        configuration = source.study.records[0].identity.configuration
        for block in source.study.blocks:
            for line in block.lines:
                key = configuration, line.row.asked, line.row.label
                if key not in seen:
                    seen.add(key)
                    yield Entry(line, source), block.heading


def _ranking(heading: str, entries: Sequence[Entry]) -> Ranking:
    ranked = sorted(entries, key=lambda entry: inf if isnan(entry.mean) else -entry.mean)
    compared = not ranked[0].asked.is_unpruned
    values = [entry.line.values for entry in ranked]
    emphasis = Emphasis.SIGNIFICANT if compared else Emphasis.NONE
    return Ranking(heading, tuple(ranked), frozenset(emphasised(values, emphasis)))
