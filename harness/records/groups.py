"""Records grouped by configuration: everything that must be equal for two cells to be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.records.file import Record, identity_hash
from harness.records.ledger import judged
from harness.records.method_versions import told_apart

_OF_A_CELL = {
    *("method", "method_file", "settings", "budget", "matched", "seed"),
    *("task", "task_version"),
}


def configurations(records: Iterable[Record]) -> tuple[list[list[Record]], list[Record]]:
    """Accuracy records by configuration, and the runs of efficiency; the newest last.

    Of duplicates, and of records of several versions of a task, the newest are left. Cells that
    broke their promise are failed, and versions of an edited method have names of their own.
    """
    newest_last = told_apart(sorted(map(judged, _distinct(records)), key=_created))
    groups: dict[str, list[Record]] = {}
    for record in newest_last:
        if record["kind"] == "accuracy":
            groups.setdefault(_configuration(record["identity"]), []).append(record)
    runs = [record for record in newest_last if record["kind"] == "efficiency"]
    return [_newest_versions(group) for group in groups.values()], runs


def _distinct(records: Iterable[Record]) -> list[Record]:
    """Of records with one identity, such as copies in two directories, the newest."""
    newest: dict[str, Record] = {}
    for record in records:
        key = identity_hash(record["identity"])
        if key not in newest or _created(newest[key]) <= _created(record):
            newest[key] = record
    return list(newest.values())


def _newest_versions(records: Sequence[Record]) -> list[Record]:
    """Without records of a task's older versions: their questions are others. Newest last."""
    newest = {r["identity"]["task"]: r["identity"]["task_version"] for r in records}
    return [r for r in records if r["identity"]["task_version"] == newest[r["identity"]["task"]]]


def left_out(records: Iterable[Record]) -> list[str]:
    """A sentence for each older version of a task, whose records no table shows."""
    accuracy = [record for record in records if record["kind"] == "accuracy"]
    newest = {(r["identity"]["task"]): r for r in sorted(accuracy, key=_created)}
    versions = {(r["identity"]["task"], r["identity"]["task_version"]) for r in accuracy}
    return [
        f"{task} of version {version} is left out, {used} is newer"
        for task, version in sorted(versions)
        if (used := newest[task]["identity"]["task_version"]) != version
    ]


def _configuration(identity: Mapping[str, Any]) -> str:
    return identity_hash({k: v for k, v in identity.items() if k not in _OF_A_CELL})


def _created(record: Record) -> str:
    return str(record["provenance"].get("created", ""))
