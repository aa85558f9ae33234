"""The rows that tables of records have."""

from __future__ import annotations

import csv
import io

from from_bodies import tables

from harness.tables.table import comma_separated


def rows(records):
    """The first table's rows as CSV dictionaries."""
    return list(csv.DictReader(io.StringIO(comma_separated(tables(records)[0]))))


def row(records, method):
    (found,) = [row for row in rows(records) if row["method"].startswith(method)]
    return found
