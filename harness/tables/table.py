"""A table of finished text: for a terminal, plain and aligned, as Markdown, as CSV.

Every number is rounded once, when the table is made; all forms print the same text. Whole tables
have all that is known of a cell in one column; `brief` makes those that are read at a glance.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from harness.visible import visible

MISSING = "–"

Parts = tuple[str, ...]


def separate(parts: Parts) -> list[str]:
    """A line for each part that is there."""
    return [part for part in parts if part]


@dataclass(frozen=True)
class Brief:
    """What a column shows in a brief table: one number. Where width lacks, the column with the
    largest `drops` goes first, and 0 never. `dim`: no evidence.
    """

    title: str = ""
    text: Callable[[Parts], str] = " ".join
    drops: int = 0
    dim: bool = False


@dataclass(frozen=True)
class Column:
    """`parts` names the CSV columns that a cell's parts go to; `lines` reads them together.

    A terminal breaks between the lines, every other form joins them by a space. Where nothing
    is known there is a dash, or nothing in an `optional` column, which is not shown if all of it
    is empty. Neighbours of one `group` stand below its name where a form can span columns.
    `briefs` are what a brief table has of it, nothing of a column that only a whole table shows.
    """

    title: str
    parts: Parts
    lines: Callable[[Parts], list[str]] = separate
    left: bool = False
    optional: bool = False
    group: str = ""
    briefs: tuple[Brief, ...] = ()


@dataclass(frozen=True)
class Table:
    """`rows` hold one tuple of parts a column, empty where there is nothing.

    `sections` are the rows that begin a group, `headings` what stands above some of them; `bold`
    are (row, column) to emphasise, `apart` rows that were not measured here; `notes` the lines
    below: how to read it and where it comes from; `failed` tells that a cell has no numbers
    because it failed. A brief table (`is_brief`) has titles of two lines, what it is `about` beside
    its own, and `legend` and `blocks` for notes and headings.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Parts, ...], ...]
    sections: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    failed: bool = False
    headings: Mapping[int, str] = field(default_factory=dict)
    bold: frozenset[tuple[int, int]] = frozenset()
    apart: frozenset[int] = frozenset()
    about: str = ""
    legend: tuple[str, ...] = ()
    blocks: Mapping[int, str] = field(default_factory=dict)
    is_brief: bool = False

    def __post_init__(self) -> None:
        """Here text enters what is printed; none of it may act there."""
        rows = tuple(tuple(tuple(map(visible, cell)) for cell in row) for row in self.rows)
        headings = {row: visible(text) for row, text in self.headings.items()}
        blocks = {row: visible(text) for row, text in self.blocks.items()}
        fields = {
            "title": visible(self.title),
            "columns": tuple(map(_visible_column, self.columns)),
            "rows": rows,
            "notes": tuple(map(visible, self.notes)),
            "headings": headings,
            "about": visible(self.about),
            "legend": tuple(map(visible, self.legend)),
            "blocks": blocks,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def shown(self) -> list[Column]:
        """Columns to show; a CSV has the others, too."""
        return [self.columns[i] for i in self._shown]

    def texts(self) -> list[list[list[str]]]:
        """Lines of every cell that is shown: [row][column][line]."""
        return [[_lines(self.columns[i], row[i]) for i in self._shown] for row in self.rows]

    def is_bold(self, row: int) -> list[bool]:
        """Of every column that is shown."""
        return [(row, i) in self.bold for i in self._shown]

    @property
    def _shown(self) -> list[int]:
        return [
            i
            for i, column in enumerate(self.columns)
            if not column.optional or any(any(row[i]) for row in self.rows)
        ]


def _visible_column(column: Column) -> Column:
    parts = tuple(map(visible, column.parts))
    return replace(column, title=visible(column.title), parts=parts, group=visible(column.group))


def _lines(column: Column, parts: Parts) -> list[str]:
    return column.lines(parts) if any(parts) else ["" if column.optional else MISSING]


def markdown(table: Table) -> str:
    """A Markdown table below its title, the notes after it."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rules = (":--" if column.left else "--:" for column in table.shown())
    titles = line(_markdown_text(column.title) for column in table.shown())
    out = [f"**{_markdown_text(table.title)}**", "", titles, line(rules)]
    for index, row in enumerate(table.texts()):
        if index in table.headings:
            first = f"**{_markdown_text(table.headings[index])}**"
            out.append(line([first, *[""] * (len(row) - 1)]))
        marks = ["**" * b or "_" * (index in table.apart) for b in table.is_bold(index)]
        texts = [_markdown_text(" ".join(lines)) for lines in row]
        out.append(line(m + t + m if t else t for m, t in zip(marks, texts, strict=True)))
    return "\n".join([*out, "", *(f"{_markdown_text(note)}  " for note in table.notes), ""])


def _markdown_text(text: str) -> str:
    """`text` as GitHub shows it, letter by letter."""
    return re.sub(r"[\\|<>*`~&]|(?<!\w)_|_(?!\w)|(?<=\])\(", r"\\\g<0>", text)


def comma_separated(*tables: Table) -> str:
    """One table with a column a part, empty where nothing is known; no notes.

    Several tables stand below one another, each part's column once; the first column names them.
    """
    columns = list(dict.fromkeys(name for table in tables for name in _named_parts(table)))
    names = [f"{number} {table.title}" for number, table in enumerate(tables, 1)]
    several = len(tables) > 1
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["table"] * several + [_csv_text(part) for part, _ in columns])
    for name, table in zip(names, tables, strict=True):
        places = [columns.index(part) for part in _named_parts(table)]
        for row in table.rows:
            cells = dict(zip(places, _csv_parts(table, row), strict=True))
            texts = [_csv_text(cells.get(place, "")) for place in range(len(columns))]
            writer.writerow([_csv_text(name)] * several + texts)
    return buffer.getvalue()


def _named_parts(table: Table) -> list[tuple[str, int]]:
    """Name of every part, with how many of that name stand before it."""
    names = [part for column in table.columns for part in column.parts]
    return [(name, names[:place].count(name)) for place, name in enumerate(names)]


def _csv_parts(table: Table, row: tuple[Parts, ...]) -> list[str]:
    cells = zip(table.columns, row, strict=True)
    return [p for column, parts in cells for p in parts or ("",) * len(column.parts)]


def _csv_text(text: str) -> str:
    """A quote before what a spreadsheet would take for a formula; numbers stay numbers."""
    return f"'{text}" if re.match(r"[=@]|[+-](?!\d*\.?\d+$)", text) else text
