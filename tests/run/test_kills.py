"""Sixty comparisons killed at random moments: nothing lost, torn or run twice, nothing left over.

Each is a fork of one process, and does what `harness compare` does once a model is loaded.
`test_cli_compare.py` kills the command itself.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

import pytest
from killed_comparison import TASKS, compare
from stand_ins import asked

from harness.records import file as records
from harness.run.cells import INTERRUPTED

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
DIRECTORIES, RECORDS = 20, 10
KILLED = {-signal.SIGKILL, -signal.SIGTERM, INTERRUPTED}


def start(directory: Path):
    """From a server that has the model and no threads of other tests, whose locks a fork keeps."""
    request = asked(directory, tasks=TASKS, limit=1, efficiency=False)
    context = get_context("forkserver")
    context.set_forkserver_preload(["killed_comparison"])
    process = context.Process(target=compare, args=(request,), daemon=True)
    process.start()
    return process


def ended(process) -> int:
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def contents(directory: Path) -> dict[str, bytes]:
    """The records, each of which must be whole."""
    paths = sorted(directory.glob("*.json.gz"))
    for path in paths:
        records.read(path)
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_kills_at_random_moments_lose_tear_repeat_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the server's imports
    assert ended(start(tmp_path / "first")) == 0  # the server loads the model
    whole = tmp_path / "whole"
    began = monotonic()
    assert ended(start(whole)) == 0
    seconds = monotonic() - began
    assert len(contents(whole)) == RECORDS
    moments, partial, statuses = random.Random(0), 0, []
    for number in range(DIRECTORIES):
        directory, kept = tmp_path / str(number), {}
        for sign in SIGNALS:
            process = start(directory)
            process.join(moments.uniform(0, seconds / len(SIGNALS)))
            if process.is_alive():
                os.kill(process.pid, sign)
            statuses.append(ended(process))
            found = contents(directory)
            assert kept.items() <= found.items()
            kept = found
            partial += len(list(directory.glob(".*.tmp")))
        assert ended(start(directory)) == 0
        assert kept.items() <= contents(directory).items()
        same = ("accuracy.csv", "accuracy.md")
        assert [(directory / name).read_text() for name in same] == [
            (whole / name).read_text() for name in same
        ]
        assert names(directory) == names(whole)
    assert len(statuses) == DIRECTORIES * len(SIGNALS) == 60
    assert partial > 0
    assert sum(status in KILLED for status in statuses) > 40


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
