"""Stand-ins for what measures accuracy and times, and a comparison that runs on them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from synthetic_records import COMMON, PROVENANCE, accuracy, efficiency_cell

from harness.errors import ScoringError
from harness.records.store import Store
from harness.run.cells import Work
from harness.run.compare import Tools, perform
from harness.run.progress import Progress
from harness.run.request import Request, cells_of, parse_methods

TASKS = ("count", "digits")


class Runner:
    """Answers from nothing; `fail`, `unscored` and `stop` name the (cell, task) at which it does
    not.
    """

    def __init__(self, fail=(), stop=None, version="1.0", unscored=()):
        self.ran, self.fail, self.stop, self.version = [], fail, stop, version
        self.unscored, self.rehearsed, self.repeated = unscored, [], []

    def task_version(self, task):
        return self.version

    def items(self, task):
        return 4

    def rehearse(self, task, cells):
        self.rehearsed.append(task)

    def run(self, cell, task, on_item, earlier=None):
        if (cell.text, task) == self.stop:
            raise KeyboardInterrupt
        self.ran.append((cell.text, task))
        if (cell.text, task) in self.fail:
            raise RuntimeError("no memory\nleft")
        for item_score in (1.0, None, 0.0, 1.0):
            on_item(item_score)
        made = accuracy(cell.method.text, cell.budget, task, seed=cell.seed)
        if earlier is not None:
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


class Timer:
    def __init__(self, error=None, fail=()):
        self.calls, self.error, self.fail = [], error, fail

    def __call__(self, cells, *, on_step):
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
        limit=None,
        batch_size=1,
        device="cpu",
        dtype="auto",
        attention="sdpa",
        controls=False,
        accuracy=True,
        efficiency=True,
        repeats=3,
        seed=0,
        output=output,
        fresh=False,
    )
    return replace(request, **changes)


def run(request, runner=None, timer=None, infeasible=None, identity=COMMON):
    """Exit status, and what was said on the way."""
    said = io.StringIO()
    progress = Progress(said)
    store = Store(request.output, progress.say, request.fresh)
    cells = cells_of(request)
    work = Work(cells, infeasible or {}, identity, PROVENANCE, store, progress)
    settings = {"repeats": 3, "warmups": 1, "new_tokens": 4, "prompt": "?", "seed": request.seed}
    return perform(request, work, Tools(runner, timer, settings)), said.getvalue()
