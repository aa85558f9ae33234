"""Tables at a glance: one number a column, budgets as headings, a legend of two lines."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, TextIO

from harness.tables.table import MISSING, Brief, Column, Table
from harness.tables.terminal import WIDTH, columns_of_text, width_of


def brief(table: Table) -> Table:
    """What its columns show briefly, below its blocks; as it is, where none of them does."""
    kept = [(i, column, form) for i, column in enumerate(table.columns) for form in column.briefs]
    if not kept:
        return table
    columns = tuple(_column(column, form) for _, column, form in kept)
    rows = tuple(
        tuple((form.text(row[i]),) if any(row[i]) else () for i, _, form in kept)
        for row in table.rows
    )
    places = {i: place for place, (i, _, _) in reversed([*enumerate(kept)])}
    return replace(
        table,
        title=" · ".join(filter(None, (table.title, table.about))),
        columns=columns,
        rows=rows,
        notes=(*table.legend, *table.notes[-1:]) if table.legend else table.notes,
        headings=table.blocks or table.headings,
        bold=frozenset((row, places[i]) for row, i in table.bold if i in places),
        is_brief=True,
    )


def at_a_glance(tables: Iterable[Table], file: TextIO) -> list[Table]:
    """The brief tables, as wide as what they are printed on."""
    width = columns_of_text(file)
    return [fitted(brief(table), width) for table in tables]


def _column(column: Column, form: Brief) -> Column:
    title = form.title or column.title
    return Column(title, (title,), left=column.left, optional=column.optional, briefs=(form,))


def fitted(table: Table, width: int = WIDTH) -> Table:
    """Without the columns for which there is no room, which a note names; numbers stay whole."""
    places = _first_to_go(table) if table.is_brief else []

    def fits(dropped: int) -> bool:
        return width_of(_without(table, places[:dropped])) <= width

    dropped = places[: bisect_left(range(len(places)), True, key=fits)]
    if not dropped:
        return table
    titles = [table.columns[place].title for place in reversed(dropped)]
    note = f"For want of width not shown: {', '.join(titles)}; --wide has all."
    return replace(_without(table, dropped), notes=(*table.notes[:-1], note, *table.notes[-1:]))


def _first_to_go(table: Table) -> list[int]:
    """The columns that may go, in that order."""
    ranks = [(column.briefs[0].drops, place) for place, column in enumerate(table.columns)]
    return [place for rank, place in sorted(ranks, reverse=True) if rank]


def _without(table: Table, dropped: Collection[int]) -> Table:
    left = [place for place in range(len(table.columns)) if place not in dropped]
    at = {place: number for number, place in enumerate(left)}

    def cut(cells: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(cells[place] for place in left)

    bold = frozenset((row, at[place]) for row, place in table.bold if place in at)
    return replace(table, columns=cut(table.columns), rows=tuple(map(cut, table.rows)), bold=bold)


def larger_half(value: str, low: str, high: str) -> str:
    """` ±1.8`: the farther end of the interval; nothing where there is none."""
    if not low:
        return ""
    decimals = len(value.partition(".")[2])
    half = max(float(value) - float(low), float(high) - float(value))
    text = f"{half:.{decimals}f}"
    return f" ±{text.removeprefix('0') if text.startswith('0.') else text}"


def unsure(text: str, holds_none: bool) -> str:
    """`≈` before a difference or ratio whose interval holds that there is none."""
    return f"≈ {text}" if holds_none and text != MISSING else text
