"""`harness table`: which tables of the records, in which form. Each is found by its name.

A further layout is a function with `@layout`, a further form of output one with `@written_as`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from harness.errors import BadInput, unknown
from harness.records.groups import configurations
from harness.records.record import Record
from harness.tables.accuracy import accuracy_table
from harness.tables.long import long_table
from harness.tables.markup import html_page, latex
from harness.tables.paper import Style, paper_table
from harness.tables.saturation import tables_of_run
from harness.tables.table import Table, comma_separated, markdown

LAYOUTS: dict[str, Callable[[Sequence[Record], Style], list[Table]]] = {}
"""By name what is made of records; nothing of records that hold nothing to show."""
WRITERS: dict[str, Callable[[Sequence[Table]], str]] = {}
"""By name what makes a file's text of tables."""
RICH = "rich"
"""The form that is no file's: it depends on what it is shown on."""
Function = TypeVar("Function", bound=Callable[..., object])


def layout(name: str) -> Callable[[Function], Function]:
    """Decorator: `harness table --layout NAME` prints what the function makes of the records."""
    return _known_as(name, LAYOUTS)


def written_as(name: str) -> Callable[[Function], Function]:
    """Decorator: `harness table --format NAME` prints what the function makes of the tables."""
    return _known_as(name, WRITERS)


def _known_as(name: str, registry: dict[str, Any]) -> Callable[[Function], Function]:
    def add(function: Function) -> Function:
        if name in registry:
            raise ValueError(f"there is a {name!r} already")
        registry[name] = function
        return function

    return add


written_as("markdown")(lambda found: "\n".join(map(markdown, found)))
written_as("latex")(latex)
written_as("csv")(lambda found: comma_separated(*found))
written_as("html")(html_page)


@layout("accuracy")
def _accuracy(records: Sequence[Record], style: Style) -> list[Table]:
    return [accuracy_table(group) for group in configurations(records)[0]]


@layout("efficiency")
def _efficiency(records: Sequence[Record], style: Style) -> list[Table]:
    return [table for run in configurations(records)[1] for table in tables_of_run(run)]


@layout("paper")
def _paper(records: Sequence[Record], style: Style) -> list[Table]:
    groups, _ = configurations(records)
    return [paper_table(groups, style)] if groups else []


@layout("long")
def _long(records: Sequence[Record], style: Style) -> list[Table]:
    groups, _ = configurations(records)
    return [long_table(groups)] if groups else []


def tables(records: Iterable[Record]) -> list[Table]:
    """Accuracy tables, one a configuration, then efficiency tables, one a run; the newest last."""
    held = list(records)
    return [*_accuracy(held, Style()), *_efficiency(held, Style())]


def check_words(layout: str | None, form: str) -> None:
    """Raises BadInput for a layout or a form that there is none of."""
    for option, word, allowed in (
        ("--layout", layout, LAYOUTS),
        ("--format", form, (RICH, *WRITERS)),
    ):
        if word is not None and word not in allowed:
            raise unknown(option, word, allowed)


def laid_out(records: Sequence[Record], layout: str | None, style: Style) -> list[Table]:
    """The tables of a layout; without one those of accuracy and of efficiency.

    Raises BadInput where the records hold nothing that the layout shows.
    """
    found = LAYOUTS[layout](records, style) if layout else tables(records)
    if not found:
        kinds = sorted({record.kind for record in records})
        raise BadInput(f"--layout {layout} shows nothing: these are {'/'.join(kinds)} records")
    return found
