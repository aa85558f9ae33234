"""What `harness compare` does once a model is loaded, for processes that will be killed.

Imported by a server of forks: the model is loaded and has answered once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import torch
from stand_ins import asked
from synthetic_records import COMMON, PROVENANCE

from harness.accuracy.instrument import Accuracy
from harness.analysis.told import told
from harness.cli.results import finished
from harness.models.load import load_model
from harness.records.file import Record
from harness.records.store import opened
from harness.run.cells import Work
from harness.run.progress import Progress
from harness.run.request import Request, cells_of

TASKS = ("embedded_count", "embedded_digits")
WRITING = 0.05
"""Seconds that a disk takes, so that many a kill falls into a write."""


def _warm() -> Accuracy:
    torch.set_num_threads(1)
    runner = Accuracy(load_model("tiny", "cpu"), TASKS, limit=1)
    for task in TASKS:
        runner.run(cells_of(asked(Path()))[0], task)
    return runner


RUNNER = _warm()


def compare(request: Request) -> None:
    """Ends the process with the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = sys.stderr = io.StringIO()
    sync = os.fsync
    os.fsync = lambda file: (sleep(WRITING), sync(file))[1]
    sys.exit(finished(request, _compared(request)))


@contextmanager
def _compared(request: Request) -> Iterator[list[Record]]:
    with opened(request.output, print) as store:
        progress = Progress(io.StringIO(), told)
        work = Work(cells_of(request), {}, COMMON, PROVENANCE, store, progress)
        yield work.records([RUNNER])
