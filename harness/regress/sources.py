"""The two sides of a comparison, read whole and checked; what must be equal in both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import BadInput, warn
from harness.records.cell import Cell
from harness.records.file import (
    ASKED,
    SUFFIX,
    Record,
    UnreadableRecordError,
    WrongContentError,
    read,
)
from harness.records.method_versions import version_of

MUST_BE_EQUAL = ("model_digest", "batch_size", "dtype", "attention", "seed")
_OF_ANSWERS = (*MUST_BE_EQUAL, "task_version", "limit", *ASKED)
_OF_TIMES = (*MUST_BE_EQUAL, "new_tokens", "prompt")

Name = tuple[str, int, str]
"""Cell as if its seed were 0, seed, task."""


class IncomparableError(Exception):
    """Nothing can be compared; the message is one sentence that names what differs."""


class Pair(NamedTuple):
    """The records of one cell on one task, or the efficiency records of two runs."""

    before: Record
    after: Record


def read_directory(directory: Path) -> list[Record]:
    """All records, oldest first, without those of wrong content, which are named.

    Raises BadInput for a torn one, and where no record is left.
    """
    if not directory.is_dir():
        raise BadInput(f"there is no directory {directory}")
    found = [record for path in sorted(directory.glob(f"*{SUFFIX}")) if (record := _read(path))]
    if not found:
        raise BadInput(f"no records in {directory}")
    return sorted(found, key=lambda record: str(record["provenance"].get("created")))


def _read(path: Path) -> Record | None:
    try:
        return read(path)
    except WrongContentError as error:
        warn(f"skipping {path}: {error}")
        return None
    except UnreadableRecordError as error:
        raise BadInput(f"{path} cannot be compared: {error}") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error


def answer_pairs(before: Sequence[Record], after: Sequence[Record]) -> list[Pair]:
    """Accuracy records of the cells and tasks that both have, in the order of tables.

    Of several records the newest counts, in `after` the newest that can be compared. Raises
    IncomparableError.
    """
    ours, theirs = _by_name(after), _by_name(before)
    shared = [name for name in theirs if name in ours]
    if theirs and ours and not shared:
        _refuse_other_seed(theirs, ours)
    pairs = [Pair(theirs[name][-1], _partner(theirs[name][-1], ours[name])) for name in shared]
    for pair, name in zip(pairs, shared, strict=True):
        _check_equal(pair, _OF_ANSWERS, f"{pair.before['cell']} on {name[-1]}")
    _check_versions([pair.before for pair in pairs], "the baseline holds")
    _check_versions([pair.after for pair in pairs], "the current records hold")
    return sorted(pairs, key=lambda pair: Cell.parse(pair.before["cell"]).order)


def time_pairs(before: Sequence[Record], after: Sequence[Record]) -> list[Pair]:
    """The newest efficiency record of each side, where both have one. Raises IncomparableError."""
    theirs, ours = (
        [record for record in records if record["kind"] == "efficiency"]
        for records in (before, after)
    )
    if not (theirs and ours):
        return []
    pair = Pair(theirs[-1], ours[-1])
    _check_equal(pair, _OF_TIMES, "the efficiency run")
    return [pair]


def unmatched(before: Sequence[Record], after: Sequence[Record]) -> dict[str, str]:
    """Cells with a task that only one side has, with what to say of it."""
    theirs, ours = _by_name(before), _by_name(after)
    found: dict[str, list[str]] = {}
    for here, there, side in ((theirs, ours, "baseline"), (ours, theirs, "current")):
        for name in here:
            if name not in there:
                found.setdefault(here[name][-1]["cell"], []).append(
                    f"{name[-1]} only in the {side}"
                )
    return {cell: ", ".join(where) for cell, where in found.items()}


def place_difference(before: Record, after: Record) -> str:
    """What makes floating point differ between two machines, or "" where nothing does."""
    for field in ("device_name", "cpu", "threads"):
        values = [record["provenance"].get(field) for record in (before, after)]
        if values[0] != values[1]:
            return f"{field.removesuffix('_name')} {values[0]} → {values[1]}"
    devices = [record["identity"]["device"] for record in (before, after)]
    return f"device {devices[0]} → {devices[1]}" if devices[0] != devices[1] else ""


def version_differences(before: Record, after: Record) -> list[str]:
    """`transformers 5.23.0 → 5.24.0` of every library whose version differs."""
    theirs, ours = (record["identity"]["versions"] for record in (before, after))
    return [
        f"{name} {theirs.get(name)} → {ours.get(name)}"
        for name in dict.fromkeys([*theirs, *ours])
        if theirs.get(name) != ours.get(name)
    ]


def _by_name(records: Iterable[Record]) -> dict[Name, list[Record]]:
    found: dict[Name, list[Record]] = {}
    for record in records:
        if record["kind"] == "accuracy":
            found.setdefault(_name(record), []).append(record)
    return found


def _name(record: Record) -> Name:
    cell = Cell.parse(record["cell"])
    return replace(cell, seed=0).text, cell.seed, record["identity"]["task"]


def _partner(record: Record, candidates: Sequence[Record]) -> Record:
    equal = [c for c in candidates if not list(_unequal(record, c, _OF_ANSWERS))]
    return (equal or candidates)[-1]


def _unequal(before: Record, after: Record, fields: Iterable[str]) -> Iterator[str]:
    theirs, ours = before["identity"], after["identity"]
    return (field for field in fields if theirs.get(field) != ours.get(field))


def _check_equal(pair: Pair, fields: Iterable[str], what: str) -> None:
    for field in _unequal(pair.before, pair.after, fields):
        values = (_short(record["identity"], field) for record in (pair.before, pair.after))
        raise IncomparableError(_differs(field, what, *values))


def _check_versions(records: Iterable[Record], side_holds: str) -> None:
    """One cell's answers on several tasks are of one version of its method."""
    versions: dict[str, str] = {}
    for record in records:
        version = version_of(record["identity"])
        if versions.setdefault(record["cell"], version) != version:
            raise IncomparableError(
                f"the records cannot be compared: {side_holds} answers of two versions of "
                f"{record['cell']}, whose file was edited in between"
            )


def _short(identity: Mapping[str, Any], field: str) -> str:
    return str(identity.get(field))[:20]


def _differs(field: str, what: str, before: object, after: object) -> str:
    return (
        f"the records cannot be compared: the {field} of {what} is {before} in the baseline and "
        f"{after} in the current records"
    )


def _refuse_other_seed(before: Mapping[Name, Any], after: Mapping[Name, Any]) -> None:
    """Where the cells of both sides differ in nothing but their seeds."""
    seeds = {(cell, task): seed for cell, seed, task in after}
    for cell, seed, task in before:
        if (cell, task) in seeds:
            raise IncomparableError(_differs("seed", f"{cell} on {task}", seed, seeds[cell, task]))
