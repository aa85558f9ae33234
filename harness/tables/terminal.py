"""Tables as text of one width: in a terminal with rich, plain and aligned elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Literal, TextIO

from harness.tables.table import Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

NARROW = 80
WIDTH = 112
"""Of brief tables and their notes, where no terminal says otherwise."""
INDENT = "  "


def show(tables: Iterable[Table], file: TextIO) -> None:
    """Print with rich where `file` is a terminal, plain and aligned elsewhere."""
    terminal = file.isatty()
    for table in tables:
        if terminal:
            _show_rich(table, file)
        else:
            file.write(plain(table) + "\n")


def columns_of_text(file: TextIO) -> int:
    """How wide a brief table may be: as the terminal, or `WIDTH` where there is none."""
    from rich.console import Console

    return Console(file=file).width if file.isatty() else WIDTH


def _show_rich(table: Table, file: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False)
    if table.is_brief:
        for line in _lines(table, _texts_joined(table)):
            console.print(Text.assemble(*line), no_wrap=True, overflow="ignore", crop=False)
        console.print()
    else:
        console.print(_grid(table))
    for note in table.notes:
        console.print(Text(note), style="dim")
    console.print()


def _grid(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(
        title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column in table.shown():
        side: Literal["left", "right"] = "left" if column.left else "right"
        # fold: a number that is too wide goes on in the next line, never ends in an ellipsis
        grid.add_column(
            Text(column.title), justify=side, overflow="fold", no_wrap=column.title == "Method"
        )
    for index, row in enumerate(table.texts()):
        if index in table.sections and index:
            grid.add_section()
        if index in table.headings:
            grid.add_row(Text(table.headings[index], style="bold"))
        styles = ["bold" if bold else "" for bold in table.is_bold(index)]
        cells = zip(row, styles, strict=True)
        grid.add_row(
            *(Text("\n".join(lines), style=style) for lines, style in cells),
            style="italic" if index in table.apart else None,
        )
    return grid


def plain(table: Table) -> str:
    """Columns aligned by spaces, a blank line between groups, a star after what is emphasised."""
    lines = ["".join(text for text, _ in line).rstrip() for line in _lines(table, _starred(table))]
    stars = ["* bold in other forms."] if table.bold else []
    return "\n".join([*lines, "", *stars, *_noted(table), ""])


def _lines(table: Table, rows: list[list[str]]) -> Iterator[list[tuple[str, str]]]:
    """Every line of a table of these texts, in pieces with their styles."""
    widths, columns = _widths(table), table.shown()

    def line(cells: Iterable[str], style: str, bold: Sequence[bool] = ()) -> list[tuple[str, str]]:
        pieces = []
        for place, (cell, width, column) in enumerate(zip(cells, widths, columns, strict=True)):
            text = cell.ljust(width) if column.left else cell.rjust(width)
            dim = "dim" if any(form.dim for form in column.briefs) else ""
            strong = "bold" if bold and bold[place] else ""
            pieces += [("  " * bool(place), ""), (text, f"{style} {dim} {strong}".strip())]
        return pieces

    yield from ([(part, "bold")] for part in _parted(table.title, max(width_of(table), NARROW)))
    yield []
    heads = [[title[row] for title in _titles(table)] for row in range(2)]
    yield from (line(head, "bold") for head in heads if any(head))
    rule = "─" if table.is_brief else "-"
    yield line((rule * width for width in widths), "")
    for index, row in enumerate(rows):
        parted = index in table.sections and not (table.is_brief and table.headings)
        yield from [[]] * (parted and index > 0)
        if index in table.headings:
            yield [(table.headings[index], "bold")]
        yield line(row, "italic" if index in table.apart else "", table.is_bold(index))


def _parted(title: str, width: int) -> list[str]:
    """In lines of whole parts."""
    lines: list[str] = []
    for part in title.split(" · "):
        longer = " · ".join([*lines[-1:], part])
        lines[-1:] = [longer] if len(longer) <= width else [*lines[-1:], part]
    return lines


def width_of(table: Table) -> int:
    """Letters in a line of the plain table."""
    widths = _widths(table)
    return max(sum(widths) + 2 * (len(widths) - 1), *map(len, table.headings.values()), 0)


def _widths(table: Table) -> list[int]:
    lines = [*_starred(table), *zip(*_titles(table), strict=True)]
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _titles(table: Table) -> list[tuple[str, str]]:
    """Two lines of each title; the upper is empty where one is enough."""
    titles = [column.title for column in table.shown()]
    return [_halves(title) if table.is_brief else ("", title) for title in titles]


def _halves(title: str) -> tuple[str, str]:
    """Cut at the blank that leaves the longer half shortest."""
    blanks = [place for place, letter in enumerate(title) if letter == " "]
    if not blanks:
        return "", title
    cut = min(blanks, key=lambda place: max(place, len(title) - place - 1))
    return title[:cut], title[cut + 1 :]


def _texts(table: Table) -> Iterator[list[list[str]]]:
    """Of every cell its lines; in a brief table what stands below a heading is set in."""
    first = min(table.headings, default=len(table.rows))
    for index, row in enumerate(table.texts()):
        if table.is_brief and index >= first:
            row = [[INDENT + line for line in row[0]], *row[1:]]
        yield row


def _texts_joined(table: Table) -> list[list[str]]:
    """Without stars: what is bold shows as such."""
    return [[" ".join(lines) for lines in row] for row in _texts(table)]


def _starred(table: Table) -> list[list[str]]:
    """Texts of all cells; in columns where something is bold, with a star or its room."""
    bold = [table.is_bold(row) for row in range(len(table.rows))]
    room = [any(column) for column in zip(*bold, strict=True)] or [False] * len(table.columns)
    return [
        [
            " ".join(lines) + ("*" if is_bold else " " * has_room)
            for lines, is_bold, has_room in zip(row, marks, room, strict=True)
        ]
        for row, marks in zip(_texts(table), bold, strict=True)
    ]


def _noted(table: Table) -> list[str]:
    if not table.is_brief:
        return list(table.notes)
    return [line for note in table.notes for line in wrap(note, WIDTH, break_on_hyphens=False)]
