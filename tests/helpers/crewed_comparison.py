"""A comparison by two workers of a Ray of its own, or of a cluster, in a process to be killed, and
what its directory holds. Two questions a shard, two shards a task, four methods.

As a script, `python crewed_comparison.py DIRECTORY TASKS [HOST:PORT]`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

EVERY = "embedded"
TWO = "embedded_count,embedded_digits"
CELLS = 5
PATIENCE = 240.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
OF_A_CLUSTER = {**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"}
"""Processes of Ray that were started apart have no token in common."""


def compare(directory: Path, tasks: str = EVERY, **changes: Any) -> None:
    from harness import compare

    compare(
        methods="fastv,vitcop,visionzip,random",
        budgets="64",
        tasks=tasks,
        model="tiny",
        device="cpu",
        output=directory,
        limit=4,
        efficiency=False,
        shard_questions=2,
        **changes,
    )


def started(directory: Path, tasks: str, *address: str) -> psutil.Popen:
    command = [sys.executable, __file__, str(directory), tasks, *address]
    with log_of(directory).open("ab") as log:
        environment = OF_A_CLUSTER if address else ENVIRONMENT
        return psutil.Popen(command, env=environment, stdout=log, stderr=log)


def log_of(directory: Path) -> Path:
    return directory.parent / f"{directory.name}.log"


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    """Those that have begun; none where the driver is gone."""
    try:
        children = driver.children(recursive=True)
        return [p for p in children if p.cmdline() and p.cmdline()[0].startswith("ray::Worker")]
    except psutil.Error:
        return []


def wait_until(true, why: str) -> None:
    last = monotonic() + PATIENCE
    while not true():
        assert monotonic() < last, why
        sleep(0.1)


def shards(directory: Path) -> dict[str, bytes]:
    return _files(directory / "unfinished")


def records(directory: Path) -> dict[str, bytes]:
    return _files(directory)


def _files(directory: Path) -> dict[str, bytes]:
    """Of those that are not gone by the time that they are read."""
    found = {}
    for path in directory.glob("*.json.gz"):
        try:
            found[path.name] = path.read_bytes()
        except FileNotFoundError:
            continue
    return found


def measured(directory: Path, tasks: str = EVERY) -> list[dict[str, Any]]:
    """All of the records that does not depend on when they were made and by whom."""
    from harness.records.file import read

    bodies = [dict(read(path).body) for path in sorted(directory.glob("*.json.gz"))]
    return [
        {k: v for k, v in body.items() if k not in ("provenance", "wall_seconds")}
        for body in bodies
        if tasks == EVERY or body["identity"]["task"] in tasks.split(",")
    ]


def check_answered_once(directory: Path) -> None:
    """Every shard of every record by one worker, and nothing left over."""
    from harness.records.file import read

    for path in directory.glob("*.json.gz"):
        who = read(path).body["provenance"]["workers"]
        assert sorted(number for numbers in who.values() for number in numbers) == [1, 2]
    assert not (directory / "unfinished").exists()
    assert not list(directory.rglob(".*.tmp"))


if __name__ == "__main__":
    path, names, *where = sys.argv[1:]
    compare(Path(path), names, workers=2, ray=where[0] if where else None)
