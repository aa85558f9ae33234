"""Records grouped by configuration: everything that must be equal for two cells to be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness.errors import BadInput
from harness.records.file import read, read_all, read_outline
from harness.records.method_versions import told_apart
from harness.records.record import AccuracyRecord, EfficiencyRecord, Record


def read_records(
    directories: Iterable[Path],
    warn: Callable[[str], None] = lambda line: None,
    whole: bool = False,
) -> list[Record]:
    """All records of the directories, outlines or `whole`. Raises BadInput if there are none.

    `warn` hears of files that cannot be read, and of a task's older versions.
    """
    records = all_records(directories, warn, whole)
    for line in left_out(records):
        warn(line)
    return records


def all_records(
    directories: Iterable[Path], warn: Callable[[str], None], whole: bool = False
) -> list[Record]:
    """As `read_records`, without a word on a task's older versions."""
    wanted = list(directories)
    for directory in wanted:
        if not directory.is_dir():
            raise BadInput(f"there is no directory {directory}")
    records = list(read_all(wanted, warn, read if whole else read_outline))
    if not records:
        raise BadInput(f"no records in {', '.join(map(str, wanted))}")
    return records


def configurations(
    records: Iterable[Record],
) -> tuple[list[list[AccuracyRecord]], list[EfficiencyRecord]]:
    """Accuracy records by configuration, and the runs of efficiency; the newest last.

    Of duplicates, and of records of several versions of a task, or of other questions of it, the
    newest are left. Versions of an edited method have names of their own.
    """
    newest_last = told_apart(sorted(_distinct(records), key=_created))
    groups: dict[str, list[AccuracyRecord]] = {}
    for record in answers_of(newest_last):
        groups.setdefault(record.identity.configuration, []).append(record)
    return [_newest_versions(group) for group in groups.values()], runs_of(newest_last)


def answers_of(records: Iterable[Record]) -> list[AccuracyRecord]:
    """Those of accuracy."""
    return [record for record in records if isinstance(record, AccuracyRecord)]


def runs_of(records: Iterable[Record]) -> list[EfficiencyRecord]:
    """Those of efficiency."""
    return [record for record in records if isinstance(record, EfficiencyRecord)]


def _distinct(records: Iterable[Record]) -> list[Record]:
    """Of records with one identity, such as copies in two directories, the newest."""
    newest: dict[str, Record] = {}
    for record in records:
        key = record.identity.hash
        if key not in newest or _created(newest[key]) <= _created(record):
            newest[key] = record
    return list(newest.values())


def _newest_versions(records: Sequence[AccuracyRecord]) -> list[AccuracyRecord]:
    """Without records of a task's older versions: their questions are others. Newest last."""
    newest = {record.task: record.identity.questions for record in records}
    return [record for record in records if record.identity.questions == newest[record.task]]


def left_out(records: Iterable[Record]) -> list[str]:
    """A sentence for each older version of a task, whose records no table shows."""
    answers = sorted(answers_of(records), key=_created)
    newest = {(r.identity.configuration, r.task): r.identity.questions for r in answers}
    older = {
        (record.task, record.identity.questions, newest[record.identity.configuration, record.task])
        for record in answers
    }
    return [
        f"{task} of version {version} is left out, {newer} is newer"
        for task, version, newer in sorted(older)
        if version != newer
    ]


def _created(record: Record) -> str:
    return str(record.provenance.created)
