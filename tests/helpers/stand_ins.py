"""Stand-ins for what measures accuracy and times, and a comparison that runs on them."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from synthetic_records import COMMON, PROVENANCE, accuracy, efficiency_cell

from harness.accuracy.instrument import Accuracy
from harness.analysis.told import told
from harness.cli.results import finished
from harness.cli.words import parse_methods
from harness.efficiency.instrument import Efficiency
from harness.efficiency.workload import Load
from harness.errors import ScoringError
from harness.records.store import Store
from harness.run.cells import Work
from harness.run.progress import Progress
from harness.run.request import Request, cells_of

TASKS = ("count", "digits")


class Runner(Accuracy):
    """Answers from nothing; `fail`, `unscored` and `stop` name the (cell, task) at which it does
    not.
    """

    def __init__(self, fail=(), stop=None, version="1.0", unscored=()):
        self.ran, self.fail, self.stop, self.version = [], fail, stop, version
        self.unscored, self.rehearsed, self.repeated = unscored, [], []
        self.names, self.limit, self.batch_size, self.draw = TASKS, None, 1, None
        self.per_image, self._left_out = False, {}
        self.answered, self.asked, self.shard_questions = [], [], 4

    def task_version(self, task):
        return self.version

    def frames_of(self, task):
        return {}

    def unaskable(self, task, cells):
        return None

    def documents(self, task):
        return range(4)

    def shards_of(self, task):
        size = self.shard_questions
        return [tuple(range(4)[start : start + size]) for start in range(0, 4, size)]

    def answer(self, cell, task, documents, on_item=None):
        if (cell.text, task, *documents) in self.fail:
            raise RuntimeError("no answer")
        if (cell.text, task, *documents) == self.stop:
            raise KeyboardInterrupt
        self.answered.append((cell.text, task))
        self.asked.append((cell.text, task, *documents))
        made = accuracy(cell.method.text, cell.budget, task, seed=cell.seed)
        for document in documents:
            if on_item is not None:
                on_item((1.0, None, 0.0, 1.0)[document])
        kept = {key: made[key] for key in ("parameters", "shape")}
        samples = [{**made["samples"][i], "score": None, "target": None} for i in documents]
        (row,) = made["ledger"]
        ledger = [{**row, "samples": len(documents)}]
        return {**kept, "ledger": ledger, "samples": samples, "wall_seconds": 0.0}

    def rehearse(self, task, cells):
        self.rehearsed.append(task)

    def run(self, cell, task, on_item, earlier=None):
        if (cell.text, task) == self.stop:
            raise KeyboardInterrupt
        self.ran.append((cell.text, task))
        if earlier is not None:
            assert [s["item"] for s in earlier["samples"]] == [f"{task}/{i}" for i in range(4)]
        if (cell.text, task) in self.fail:
            raise RuntimeError("no memory\nleft")
        made = accuracy(cell.method.text, cell.budget, task, seed=cell.seed)
        if earlier is not None and (cell.text, task) not in self.answered:
            self.repeated.append((cell.text, task))
            assert [s["answer"] for s in earlier["samples"]] == [
                s["answer"] for s in made["samples"]
            ]
        if (cell.text, task) in self.unscored:
            kept = {key: made[key] for key in ("parameters", "ledger", "samples", "shape")}
            samples = [{**s, "score": None, "target": None} for s in made["samples"]]
            raise ScoringError("no judge", {**kept, "samples": samples})
        return {
            key: made[key]
            for key in ("parameters", "ledger", "samples", "shape", "metric", "wall_seconds")
        }


class Timer(Efficiency):
    def __init__(self, error=None, fail=()):
        super().__init__(None, Load(), repeats=3)
        self.calls, self.error, self.fail = [], error, fail

    def timed(self, cells, on_step):
        self.calls.append([cell.text for cell in cells])
        on_step("rounds", 1, 2)
        if self.error is not None:
            raise self.error
        rows = [efficiency_cell(cell.method.text, cell.budget, 0.1) for cell in cells]
        for cell, row in zip(cells, rows, strict=True):
            del row["method"], row["budget"]
            row["cell"] = cell.text
            if row["cell"] in self.fail:
                row |= {"status": "failed", "reason": "RuntimeError: slow"}
        return {"cells": rows, "order": [], "shape": accuracy()["shape"]}


def asked(output: Path, **changes) -> Request:
    request = Request(
        methods=parse_methods("vitcop,fastv"),
        budgets=(192, 64),
        tasks=TASKS,
        model="tiny",
        device="cpu",
        repeats=3,
        output=output,
    )
    return replace(request, **changes)


def run(request, runner=None, timer=None, infeasible=None, identity=COMMON):
    """Exit status, and what was said on the way."""
    said = io.StringIO()
    progress = Progress(said, told)
    store = Store(request.output, progress.say, request.fresh)
    work = Work(cells_of(request), infeasible or {}, identity, PROVENANCE, store, progress)
    if runner is not None:
        runner.names, runner.limit = request.tasks, request.limit
        runner.batch_size = identity["batch_size"]
    if timer is not None:
        timer.load = Load(identity["batch_size"], seed=request.seed)
    instruments = [each for each in (runner, timer) if each is not None]
    return finished(request, measuring(work, instruments)), said.getvalue()


@contextmanager
def measuring(work, instruments):
    """As `compared`, without a model."""
    yield work.records(instruments)
