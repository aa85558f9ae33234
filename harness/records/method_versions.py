"""Versions of a method of the user's own: what was edited has its name, and is another method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.records.cell import Cell
from harness.records.record import AccuracyRecord, Record

DIGEST = "file-digest"
"""Written as a setting; no setting of a method is called so, since it is no name in Python."""


def told_apart(records: Sequence[Record]) -> list[Record]:
    """The records, with the digest of the method's file in the text of cells whose method was
    edited between them.
    """
    versions: dict[str, set[str]] = {}
    for record in records:
        for cell, version in _cells(record):
            versions.setdefault(cell.method.text, set()).add(version)
    edited = {method for method, found in versions.items() if len(found) > 1}
    return [_named(record, edited) for record in records] if edited else list(records)


def _cells(record: Record) -> Iterator[tuple[Cell, str]]:
    """Each cell of a record with its method's version, "" for a method that is shipped."""
    if isinstance(record, AccuracyRecord):
        yield record.cell, record.identity.method_file
    else:
        yield from ((timed.cell, timed.version) for timed in record.cells)


def _named(record: Record, edited: set[str]) -> Record:
    cells = [_with_version(cell, version, edited) for cell, version in _cells(record)]
    if isinstance(record, AccuracyRecord):
        return replace(record, cell=cells[0])
    pairs = zip(record.cells, cells, strict=True)
    return replace(record, cells=tuple(replace(timed, cell=cell) for timed, cell in pairs))


def _with_version(cell: Cell, version: str, edited: set[str]) -> Cell:
    if not version or cell.method.text not in edited:
        return cell
    settings = sorted([*cell.method.settings, (DIGEST, version[:10])])
    return replace(cell, method=replace(cell.method, settings=tuple(settings)))
