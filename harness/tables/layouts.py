"""`harness table`: which tables of the records, in which form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from harness.errors import BadInput
from harness.records.groups import configurations
from harness.records.record import AccuracyRecord, Record
from harness.tables.accuracy import accuracy_table
from harness.tables.choices import Format, Layout
from harness.tables.efficiency import efficiency_table
from harness.tables.long import long_table
from harness.tables.markup import html_page, latex
from harness.tables.paper import Style, paper_table
from harness.tables.table import Table, comma_separated, markdown

WRITERS: dict[Format, Callable[[Sequence[Table]], str]] = {
    Format.MARKDOWN: lambda found: "\n".join(map(markdown, found)),
    Format.LATEX: latex,
    Format.CSV: lambda found: comma_separated(*found),
    Format.HTML: html_page,
}
"""`rich` is not among them: it depends on what it is shown on."""


def tables(records: Iterable[Record]) -> list[Table]:
    """Accuracy tables, one a configuration, then efficiency tables, one a run; the newest last."""
    groups, runs = configurations(records)
    return [*map(accuracy_table, groups), *map(efficiency_table, runs)]


def laid_out(records: Sequence[Record], layout: Layout | None, style: Style) -> list[Table]:
    """The tables of a layout; without one those of accuracy and of efficiency.

    Raises BadInput where the records hold nothing that the layout shows.
    """
    if layout in (Layout.PAPER, Layout.LONG):
        groups, _ = configurations(records)
        found = [_merged(groups, layout, style)] if groups else []
    else:
        titles = (layout.capitalize(),) if layout else ("Accuracy", "Efficiency")
        found = [table for table in tables(records) if table.title.startswith(titles)]
    if not found:
        kinds = sorted({record.kind for record in records})
        raise BadInput(f"--layout {layout} shows nothing: these are {'/'.join(kinds)} records")
    return found


def _merged(groups: Sequence[Sequence[AccuracyRecord]], layout: Layout, style: Style) -> Table:
    return long_table(groups) if layout is Layout.LONG else paper_table(groups, style)
