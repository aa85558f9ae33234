"""`harness leaderboard`: one self-contained page of many record sets, from records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import nan
from pathlib import Path

from harness.analysis.blocks import AVERAGE
from harness.analysis.boards import Board, Entry, Sets, Source, boards
from harness.analysis.emphasis import Emphasis
from harness.analysis.stats import task_means
from harness.analysis.task_scores import Column as Shown
from harness.records.file import check_file
from harness.records.groups import all_records
from harness.tables import numbers
from harness.tables.accuracy import difference, difference_lines, mean, mean_lines
from harness.tables.footnotes import Footnotes
from harness.tables.markup import html
from harness.tables.page import clock, links, put, rendered
from harness.tables.paper import BOLD, NOISE
from harness.tables.table import Column, Parts, Table, separate

HOW_TO_READ = (
    "Tokens: visual tokens that entered a decoder layer, counted; mean over layers and questions. "
    "Mean: of the benchmarks, with its 95 % interval over images. Difference: to unpruned of the "
    "same configuration, on the same questions, with all that a sign-flip test over images does "
    "not reject; n.s.: not significant, p ≥ 0.05. FLOPs: of the prefill with its selection, as a "
    "share of unpruned's. Speed-up, where it was timed: unpruned's prefill over this one's with "
    "its selection, in the same rounds, with its 95 % interval. From: see below the table; dirty: "
    "measured by code that no commit holds."
)
_MEAN, _FIRST_TASK = 1, 6
"""Places of columns."""


def write_board(
    directories: Sequence[Path], output: Path, warn: Callable[[str], None], force: bool = False
) -> None:
    """Write the page. Raises BadInput as `check_file` and `boards` do; `warn` as `all_records`."""
    check_file(output, force)
    put(page({path: all_records([path], warn) for path in directories}), output)


def page(sets: Sets) -> str:
    """The whole page. Raises BadInput as `boards` does."""
    created = max(str(r.provenance.created) for records in sets.values() for r in records)
    return rendered(
        "board.html.jinja",
        models=[
            (model, [_shown(board) for board in found])
            for model, found in groupby(boards(sets), key=lambda board: board.model)
        ],
        how_to_read=" ".join((HOW_TO_READ, BOLD[Emphasis.SIGNIFICANT])),
        noise=NOISE,
        created=created[:10],
    )


def _shown(board: Board) -> dict[str, object]:
    records = [record for source in board.sources for record in source.study.records]
    table = board_table(board)
    return {"table": html(table, "sortable", _mean_title(board)), "links": links(records)}


def board_table(board: Board) -> Table:
    """A block a budget; below it where the entries come from, and why some have no numbers."""
    tasks = board.sources[0].columns
    sources = Footnotes(numbered=True)
    rows: list[tuple[Parts, ...]] = []
    headings, bold = {}, set()
    numbered = {board.sources[0].study.overall: _MEAN}
    numbered |= {task.name: _FIRST_TASK + i for i, task in enumerate(tasks)}
    for ranking in board.rankings:
        headings[len(rows)] = ranking.heading
        for i, entry in enumerate(ranking.entries):
            best = {column for place, column in ranking.bold if place == i}
            bold |= {(len(rows), place) for column, place in numbered.items() if column in best}
            rows.append(tuple(_cells(entry, tasks, sources.mark(_origin(entry.source)))))
    return Table(
        _title(board),
        _columns(tasks, _mean_title(board)),
        tuple(rows),
        frozenset(headings),
        notes=(*sources.lines(), *_noted(board)),
        headings=headings,
        bold=frozenset(bold),
    )


def _noted(board: Board) -> list[str]:
    rows = [entry.line.row for ranking in board.rankings for entry in ranking.entries]
    return [f"{row.label}, {row.asked.tokens_label}: {row.note}" for row in rows if row.note]


def _title(board: Board) -> str:
    identity = board.sources[0].study.records[0].identity
    asked = f"protocol {identity.protocol}" if identity.protocol else ""
    template = f"chat template {identity.chat_template[:10]}" if identity.chat_template else ""
    counts = numbers.questions(board.sources[0].upper.questions, identity)
    return " · ".join(filter(None, (counts, identity.dtype, identity.attention, asked, template)))


def _mean_title(board: Board) -> str:
    return "Mean" if board.sources[0].study.overall == AVERAGE else "Mean, % of unpruned"


def _origin(source: Source) -> str:
    run = source.study.run
    timed = f" · timed at {clock(run)}, commit {numbers.commits([run])}" if run else ""
    return f"{source.directory} · {numbers.origin(source.study.records)}{timed}"


def _columns(tasks: Sequence[Shown], mean_title: str) -> tuple[Column, ...]:
    return (
        Column("Method", ("method", "within_noise_of_random"), _label, left=True),
        Column(mean_title, ("mean", "mean_low", "mean_high", "seed_sd"), mean_lines),
        Column("Difference", ("diff", "diff_low", "diff_high", "p", "verdict"), difference_lines),
        Column("Tokens", ("counted_tokens",)),
        Column("FLOPs", ("prefill_percent",), lambda parts: [f"{parts[0]} %"]),
        Column(
            "Speed-up", ("speedup", "speedup_low", "speedup_high"), _speedup_lines, optional=True
        ),
        *(Column(task.title, (task.name,), group="Benchmark") for task in tasks),
        Column("From", ("source", "dirty"), lambda parts: [" ".join(parts).strip()], left=True),
    )


def _label(parts: Parts) -> list[str]:
    method, noise = parts
    return [method + ("†" if noise else "")]


def _speedup_lines(parts: Parts) -> list[str]:
    value, low, high = parts
    return separate((f"{value}×", f"[{low}, {high}]" if low else ""))


def _cells(entry: Entry, tasks: Sequence[Shown], source: str) -> Iterator[Parts]:
    row, upper = entry.line.row, entry.source.upper
    one_unit = entry.source.study.overall == AVERAGE
    whole = None if one_unit else task_means(upper.outcomes)
    means = task_means(row.outcomes)
    yield row.label, "yes" if entry.line.noise else ""
    yield mean(row, whole)
    yield () if entry.asked.is_unpruned else difference(row, upper, whole)
    yield (numbers.number(row.tokens),)
    yield (numbers.number(100 * entry.flops, 0),) if row.flops else ()
    yield () if entry.asked.is_unpruned else numbers.estimate(entry.speedup, 2)
    for task in tasks:
        yield (numbers.number(means.get(task.name, nan)),)
    yield source, "dirty" if entry.is_dirty else ""
