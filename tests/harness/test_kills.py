"""Sixty comparisons killed at random moments: nothing lost, torn or run twice, nothing left over.

Each is a fork of this process, and does what `harness compare` does once a model is loaded.
`test_cli_compare.py` kills the command itself.
"""

from __future__ import annotations

import io
import os
import random
import signal
import sys
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, sleep

import pytest
from stand_ins import asked
from synthetic_records import COMMON, PROVENANCE

from harness import record as records
from harness.accuracy import Accuracy
from harness.compare import INTERRUPTED, Tools, perform
from harness.models import load_model
from harness.progress import Progress
from harness.request import Request, cells_of
from harness.runs import Work
from harness.store import opened

TASKS = ("embedded_count", "embedded_digits")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
DIRECTORIES, RECORDS = 20, 10
KILLED = {-signal.SIGKILL, -signal.SIGTERM, INTERRUPTED}
WRITING = 0.05
"""Seconds that a disk takes, so that many a kill falls into a write."""


@pytest.fixture(scope="module")
def runner() -> Accuracy:
    runner = Accuracy(load_model("tiny", "cpu"), TASKS, limit=1)
    for task in TASKS:
        runner.run(cells_of(asked(Path()))[0], task)
    return runner


def compare(request: Request, runner: Accuracy) -> None:
    """In a process of its own; ends it with the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = sys.stderr = io.StringIO()
    sync = os.fsync
    os.fsync = lambda file: (sleep(WRITING), sync(file))[1]
    with opened(request.output, print) as store:
        progress = Progress(io.StringIO())
        work = Work(cells_of(request), {}, COMMON, PROVENANCE, store, progress)
        sys.exit(perform(request, work, Tools(runner, None, {})))


def start(directory: Path, runner: Accuracy):
    request = asked(directory, tasks=TASKS, limit=1, efficiency=False)
    process = get_context("fork").Process(target=compare, args=(request, runner), daemon=True)
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
def test_kills_at_random_moments_lose_tear_repeat_and_leave_nothing(tmp_path, runner):
    whole = tmp_path / "whole"
    began = monotonic()
    assert ended(start(whole, runner)) == 0
    seconds = monotonic() - began
    assert len(contents(whole)) == RECORDS
    moments, partial, statuses = random.Random(0), 0, []
    for number in range(DIRECTORIES):
        directory, kept = tmp_path / str(number), {}
        for sign in SIGNALS:
            process = start(directory, runner)
            process.join(moments.uniform(0, seconds / len(SIGNALS)))
            if process.is_alive():
                os.kill(process.pid, sign)
            statuses.append(ended(process))
            found = contents(directory)
            assert kept.items() <= found.items()
            kept = found
            partial += len(list(directory.glob(".*.tmp")))
        assert ended(start(directory, runner)) == 0
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
