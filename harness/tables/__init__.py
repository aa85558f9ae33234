"""Numbers become text: terminal, Markdown, LaTeX, CSV, HTML, the page.

from harness import load, tables
print(tables.text(records))
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.records.record import Record
    from harness.tables.table import Table


def of(records: Iterable[Record]) -> list[Table]:
    """Accuracy tables, one a configuration, then efficiency tables, one a run."""
    from harness.tables.layouts import tables

    return tables(records)


def text(records: Iterable[Record]) -> str:
    """What `harness table` prints of these records."""
    from harness.tables.brief import brief, fitted
    from harness.tables.terminal import plain

    return "\n".join(plain(fitted(brief(table))) for table in of(records))
