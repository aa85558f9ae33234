"""The two sides of a comparison, read whole and checked; what must be equal in both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import BadInput, warn
from harness.records.cell import Asked
from harness.records.file import SUFFIX, UnreadableRecordError, WrongContentError, read
from harness.records.groups import answers_of, runs_of
from harness.records.identity import COMPARABLE_ANSWERS, COMPARABLE_TIMES, Identity
from harness.records.record import AccuracyRecord, EfficiencyRecord, Record

Name = tuple[Asked, int, str]
"""What a cell asks, its seed, its task."""


class IncomparableError(Exception):
    """Nothing can be compared; the message is one sentence that names what differs."""


class Pair(NamedTuple):
    """The records of one cell on one task."""

    before: AccuracyRecord
    after: AccuracyRecord


class Runs(NamedTuple):
    """The efficiency records of two runs."""

    before: EfficiencyRecord
    after: EfficiencyRecord


def read_directory(directory: Path) -> list[Record]:
    """All records, oldest first, without those of wrong content, which are named.

    Raises BadInput for a torn one, and where no record is left.
    """
    if not directory.is_dir():
        raise BadInput(f"there is no directory {directory}")
    found = [record for path in sorted(directory.glob(f"*{SUFFIX}")) if (record := _read(path))]
    if not found:
        raise BadInput(f"no records in {directory}")
    return sorted(found, key=lambda record: str(record.provenance.created))


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
    for old, new in pairs:
        what = f"{old.cell.text} on {old.task}"
        _check_equal(old.identity, new.identity, COMPARABLE_ANSWERS, what)
    _check_versions([pair.before for pair in pairs], "the baseline holds")
    _check_versions([pair.after for pair in pairs], "the current records hold")
    return sorted(pairs, key=lambda pair: pair.before.cell.order)


def time_pairs(before: Sequence[Record], after: Sequence[Record]) -> list[Runs]:
    """The newest efficiency record of each side, where both have one. Raises IncomparableError."""
    theirs, ours = runs_of(before), runs_of(after)
    if not (theirs and ours):
        return []
    pair = Runs(theirs[-1], ours[-1])
    identities = pair.before.identity, pair.after.identity
    _check_equal(*identities, COMPARABLE_TIMES, "the efficiency run")
    return [pair]


def unmatched(before: Sequence[Record], after: Sequence[Record]) -> dict[str, str]:
    """Cells with a task that only one side has, with what to say of it."""
    theirs, ours = _by_name(before), _by_name(after)
    found: dict[str, list[str]] = {}
    for here, there, side in ((theirs, ours, "baseline"), (ours, theirs, "current")):
        for name in here:
            if name not in there:
                where = found.setdefault(here[name][-1].cell.text, [])
                where.append(f"{name[-1]} only in the {side}")
    return {cell: ", ".join(where) for cell, where in found.items()}


def place_difference(before: Record, after: Record) -> str:
    """What makes floating point differ between two machines, or "" where nothing does."""
    for field in ("device_name", "cpu", "threads"):
        values = [getattr(record.provenance, field) for record in (before, after)]
        if values[0] != values[1]:
            return f"{field.removesuffix('_name')} {values[0]} → {values[1]}"
    devices = [record.identity.device for record in (before, after)]
    return f"device {devices[0]} → {devices[1]}" if devices[0] != devices[1] else ""


def version_differences(before: Record, after: Record) -> list[str]:
    """`transformers 5.23.0 → 5.24.0` of every library whose version differs."""
    theirs, ours = (record.identity.versions for record in (before, after))
    return [
        f"{name} {theirs.get(name)} → {ours.get(name)}"
        for name in dict.fromkeys([*theirs, *ours])
        if theirs.get(name) != ours.get(name)
    ]


def _by_name(records: Iterable[Record]) -> dict[Name, list[AccuracyRecord]]:
    found: dict[Name, list[AccuracyRecord]] = {}
    for record in answers_of(records):
        name = (record.cell.asked, record.cell.seed, record.task)
        found.setdefault(name, []).append(record)
    return found


def _partner(record: AccuracyRecord, candidates: Sequence[AccuracyRecord]) -> AccuracyRecord:
    differing = (record.identity.differing(c.identity, COMPARABLE_ANSWERS) for c in candidates)
    equal = [c for c, found in zip(candidates, differing, strict=True) if not any(found)]
    return (equal or candidates)[-1]


def _check_equal(before: Identity, after: Identity, fields: Iterable[str], what: str) -> None:
    for field in before.differing(after, fields):
        values = (str(getattr(identity, field))[:20] for identity in (before, after))
        raise IncomparableError(_differs(field, what, *values))


def _check_versions(records: Iterable[AccuracyRecord], side_holds: str) -> None:
    """One cell's answers on several tasks are of one version of its method."""
    versions: dict[str, str] = {}
    for record in records:
        cell, version = record.cell.text, record.identity.method_file
        if versions.setdefault(cell, version) != version:
            raise IncomparableError(
                f"the records cannot be compared: {side_holds} answers of two versions of "
                f"{cell}, whose file was edited in between"
            )


def _differs(field: str, what: str, before: object, after: object) -> str:
    return (
        f"the records cannot be compared: the {field} of {what} is {before} in the baseline and "
        f"{after} in the current records"
    )


def _refuse_other_seed(before: Mapping[Name, Any], after: Mapping[Name, Any]) -> None:
    """Where the cells of both sides differ in nothing but their seeds."""
    seeds = {(asked, task): seed for asked, seed, task in after}
    for (asked, seed, task), held in before.items():
        if (asked, task) in seeds:
            what = f"{replace(held[-1].cell, seed=0).text} on {task}"
            raise IncomparableError(_differs("seed", what, seed, seeds[asked, task]))
