"""What a long run costs the driver beside the answers: a stand-in answers at once.

`python tests/benchmarks/growth.py`, with `tests/helpers` on the path: seconds and memory against
questions of a task, cells, and records of a directory.
"""

from __future__ import annotations

import io
import resource
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from stand_ins import Runner, asked
from synthetic_records import COMMON, PROVENANCE, accuracy

from harness.accuracy.shards import QUESTIONS, dealt
from harness.analysis.told import told
from harness.cli.words import parse_methods
from harness.records.store import Store
from harness.run.cells import Work
from harness.run.progress import Progress
from harness.run.request import cells_of

FIRST = {"ids": list(range(32)), "logprobs": [-round(0.1731 * n, 4) for n in range(32)]}
CUT = [{"stage": "rank", "layer": n, "kept": "ab" * 72, "rows": 576} for n in range(3)]


class Long(Runner):
    """Tasks of so many questions, with as much about each as a record of a real model has."""

    def __init__(self, questions: int, stop_after: int | None = None) -> None:
        super().__init__()
        self.questions, self.left = questions, stop_after

    def documents(self, task):
        return range(self.questions)

    def shards_of(self, task):
        documents = self.documents(task)
        return dealt(documents, [str(i // 4) for i in documents], QUESTIONS)

    def answer(self, cell, task, documents, on_item=None):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left = None if self.left is None else self.left - 1
        made = accuracy(cell.method.text, cell.budget, task, seed=cell.seed)
        one = {**made["samples"][0], "first_token": FIRST, "selections": CUT if cell.budget else []}
        samples = [
            {**one, "item": f"{task}/{i}", "image": f"image{i // 4}", "score": None, "target": None}
            for i in documents
        ]
        ledger = [{**made["ledger"][0], "samples": len(documents)}]
        kept = {key: made[key] for key in ("parameters", "shape")}
        return {**kept, "ledger": ledger, "samples": samples, "wall_seconds": 0.0}

    def run(self, cell, task, on_item, earlier=None):
        samples = [{**s, "score": 1.0, "target": "2"} for s in earlier["samples"]]
        return {**earlier, "samples": samples, "metric": "acc"}


def run(directory: Path, runner: Long, budgets: int = 1) -> float:
    """Seconds."""
    request = asked(directory, methods=parse_methods("fastv"), efficiency=False)
    request = replace(request, budgets=tuple(range(64, 64 + budgets)))
    began, said = perf_counter(), io.StringIO()
    store = Store(directory, lambda line: print(line, file=sys.stderr))
    progress = Progress(said, told)
    work = Work(cells_of(request), {}, COMMON, PROVENANCE, store, progress)
    try:
        work.records([runner])
    except KeyboardInterrupt:
        print(f"  interrupted; {len(list(directory.glob('unfinished/*')))} shards kept")
    return perf_counter() - began


def peak() -> float:
    """MiB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_questions(questions: int) -> None:
    with TemporaryDirectory() as folder:
        begun = peak()
        whole = run(Path(folder) / "whole", Long(questions))
        print(
            f"{questions} questions, 2 cells, 2 tasks: {whole:.1f} s, {begun:.0f}-{peak():.0f} MiB"
        )
        shards = 4 * -(-questions // QUESTIONS)
        run(Path(folder) / "parts", Long(questions, shards - 1))
        print(f"  resumed in {run(Path(folder) / 'parts', Long(questions)):.1f} s")


def of_cells(cells: int) -> None:
    with TemporaryDirectory() as folder:
        seconds = run(Path(folder), Long(64), cells - 1)
        print(f"{cells} cells, 2 tasks of 64 questions: {seconds:.1f} s, {peak():.0f} MiB")
        again = run(Path(folder), Long(64), cells - 1)
        print(f"  reused in {again:.1f} s")


def apart(function) -> None:
    """Each in a process of its own, so that its memory is its own."""
    subprocess.run([sys.executable, __file__, function.func.__name__, *map(str, function.args)])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"of_questions": of_questions, "of_cells": of_cells}[sys.argv[1]](int(sys.argv[2]))
    else:
        for number in (1_000, 5_000, 20_000):
            apart(partial(of_questions, number))
        for number in (20, 200):
            apart(partial(of_cells, number))
