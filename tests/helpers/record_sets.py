"""Sets of records as several runs of one comparison would leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthetic_records import accuracy

from harness.records import file
from harness.records.groups import all_records
from harness.records.record import Record


def with_identity(record, **changes):
    return {**record, "identity": {**record["identity"], **changes}}


def alike(method, scores, dirty=False, **identity):
    """Unpruned and a method at 64 tokens, as one run would have measured them."""
    found = [accuracy("unpruned", None, scores=[1.0] * 60), accuracy(method, 64, scores=scores)]
    for record in found:
        record["provenance"] = {**record["provenance"], "dirty": dirty}
    return [with_identity(record, **identity) for record in found]


OLD = alike("fastv", [1.0] * 30 + [0.0] * 30)
NEW = alike("vitcop", [1.0] * 50 + [0.0] * 10, code_digest="new", batch_size=8)


def made(place: Path, **sets: list[dict[str, Any]]) -> dict[Path, list[Record]]:
    """Writes each set of bodies into a directory of its name, and reads it."""
    for name, bodies in sets.items():
        for body in bodies:
            file.write(place / name, body)
    return {place / name: all_records([place / name], print) for name in sets}
