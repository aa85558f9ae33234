"""Versions of a method of the user's own: what was edited has its name, and is another method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.records.cell import Cell
from harness.records.file import Record

DIGEST = "file-digest"
"""Written as a setting; no setting of a method is called so, since it is no name in Python."""


def told_apart(records: Sequence[Record]) -> list[Record]:
    """The records, with the digest of the method's file in the text of cells whose method was
    edited between them.
    """
    versions: dict[str, set[str]] = {}
    for record in records:
        for cell, version in _cells(record):
            versions.setdefault(_method(cell), set()).add(version)
    edited = {method for method, found in versions.items() if len(found) > 1}
    return [_named(record, edited) for record in records] if edited else list(records)


def version_of(identity: Mapping[str, Any]) -> str:
    """Digest of the user's file, or "" for a method that is shipped."""
    return str(identity.get("method_file", ""))


def _cells(record: Record) -> Iterator[tuple[Record, str]]:
    """Each cell of a record with its method's version, which old runs of timing do not tell."""
    if record["kind"] == "accuracy":
        yield record, version_of(record["identity"])
        return
    identities = record["identity"].get("cell_identities") or [{}] * len(record["cells"])
    for cell, identity in zip(record["cells"], identities, strict=True):
        yield cell, version_of(identity)


def _method(cell: Record) -> str:
    return Cell.parse(cell["cell"]).method.text


def _named(record: Record, edited: set[str]) -> Record:
    cells = [_with_version(cell, version, edited) for cell, version in _cells(record)]
    return cells[0] if record["kind"] == "accuracy" else {**record, "cells": cells}


def _with_version(cell: Record, version: str, edited: set[str]) -> Record:
    if not version or _method(cell) not in edited:
        return cell
    asked = Cell.parse(cell["cell"])
    settings = sorted([*asked.method.settings, (DIGEST, version[:10])])
    return {
        **cell,
        "cell": replace(asked, method=replace(asked.method, settings=tuple(settings))).text,
    }
