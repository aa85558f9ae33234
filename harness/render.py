"""A table of finished text: for a terminal, plain and aligned, as Markdown, as CSV.

Every number is rounded once, when the table is made; all forms print the same text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TextIO

MISSING = "–"

Parts = tuple[str, ...]


def joined(parts: Parts) -> list[str]:
    """One line of all parts that are there."""
    return [" ".join(part for part in parts if part)]


@dataclass(frozen=True)
class Column:
    """`parts` names the CSV columns that a cell's parts go to; `lines` reads them together.

    A terminal breaks between the lines, every other form joins them by a space; `missing` is
    written where nothing is known.
    """

    title: str
    parts: Parts
    lines: Callable[[Parts], list[str]] = joined
    left: bool = False
    missing: str = MISSING


@dataclass(frozen=True)
class Table:
    """`rows` hold one tuple of parts a column, empty where there is nothing.

    `sections` are the rows that begin a group; `notes` the lines below: how to read it and where
    it comes from; `failed` tells that a cell has no numbers because it failed.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Parts, ...], ...]
    sections: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    failed: bool = False

    def texts(self) -> list[list[list[str]]]:
        """Lines of every cell, [row][column][line]."""
        return [
            [
                column.lines(parts) if any(parts) else [column.missing]
                for column, parts in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]


def show(tables: Iterable[Table], file: TextIO) -> None:
    """Print with rich where `file` is a terminal, plain and aligned elsewhere."""
    terminal = file.isatty()
    for table in tables:
        if terminal:
            _show_rich(table, file)
        else:
            file.write(plain(table) + "\n")


def _show_rich(table: Table, file: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD)
    for column in table.columns:
        grid.add_column(Text(column.title), justify="left" if column.left else "right")
    for index, row in enumerate(table.texts()):
        if index in table.sections and index:
            grid.add_section()
        grid.add_row(*(Text("\n".join(lines)) for lines in row))
    console = Console(file=file, highlight=False)
    console.print(grid)
    for note in table.notes:
        console.print(Text(note), style="dim")
    console.print()


def plain(table: Table) -> str:
    """Columns aligned by spaces, a blank line between groups."""
    rows = [[" ".join(lines) for lines in row] for row in table.texts()]
    titles = [column.title for column in table.columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]

    def line(cells: Iterable[str]) -> str:
        aligned = [
            cell.ljust(width) if column.left else cell.rjust(width)
            for cell, width, column in zip(cells, widths, table.columns, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    out = [table.title, "", line(titles), line("-" * width for width in widths)]
    for index, row in enumerate(rows):
        out += [""] * (index in table.sections and index > 0) + [line(row)]
    return "\n".join([*out, "", *table.notes, ""])


def markdown(table: Table) -> str:
    """A Markdown table below its title, the notes after it."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rules = (":--" if column.left else "--:" for column in table.columns)
    out = [f"**{table.title}**", "", line(c.title for c in table.columns), line(rules)]
    out += [line(" ".join(lines) for lines in row) for row in table.texts()]
    return "\n".join([*out, "", *(f"{note}  " for note in table.notes), ""])


def comma_separated(table: Table) -> str:
    """One column a part, empty where nothing is known; no notes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([part for column in table.columns for part in column.parts])
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        writer.writerow([p for column, parts in cells for p in parts or ("",) * len(column.parts)])
    return buffer.getvalue()
