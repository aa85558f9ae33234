"""A comparison from its request to tables: kept as files, printed, and as an exit status."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from harness.cli.words import method_blamed
from harness.errors import BadInput, warn
from harness.records.file import file_name, read, readable, write_atomically
from harness.records.record import Record
from harness.run.cells import INTERRUPTED, Interrupted
from harness.run.request import Request
from harness.tables.brief import at_a_glance, brief
from harness.tables.layouts import tables
from harness.tables.table import Table, comma_separated, markdown
from harness.tables.terminal import show


def finished(request: Request, comparison: AbstractContextManager[Sequence[Record]]) -> int:
    """Exit status: 0, 1 if a cell failed, 130 after Ctrl-C. Raises BadInput.

    `comparison` begins when it is entered. What it gives becomes tables and a report in files,
    then tables on standard output.
    """
    try:
        with method_blamed(), comparison as records:
            found = tables(records)
            try:
                _keep_tables(found, request.output)
                if request.report:
                    _write_report(records, request.output)
            finally:  # the terminal may fail, and so may the files
                show(at_a_glance(found, sys.stdout), sys.stdout)
    except Interrupted as interrupted:
        warn(str(interrupted))
        return INTERRUPTED
    return int(any(table.failed for table in found))


def _keep_tables(found: Sequence[Table], directory: Path) -> None:
    """`accuracy.md`, `accuracy.csv`, `efficiency-batch-1.md` and so on, beside the records."""
    for table in found:
        name = re.sub(r"\W+", "-", table.title.lower())
        texts = {".md": markdown(brief(table)), ".csv": comma_separated(table)}
        for suffix, text in texts.items():
            try:
                write_atomically(directory / f"{name}{suffix}", text.encode())
            except OSError as error:
                raise BadInput(
                    f"cannot write to {directory}: {error.strerror or error}; the records are kept"
                ) from error


def _write_report(records: Sequence[Record], directory: Path) -> None:
    """The page of this comparison's records, read again whole."""
    from harness.tables.page import write_report

    output = directory / "report.html"
    paths = [directory / file_name(record.body) for record in records]
    write_report(list(readable(paths, warn, read)), output, force=True)
    warn(f"the report is {output}")
