"""How a paper's table grows with workers: the scheduler itself, with costs in place of a model.

`python tests/benchmarks/crew_simulation.py [SVG]` prints the table of docs/scale.md and draws its
picture. What is assumed is said here, in one place.
"""

from __future__ import annotations

import heapq
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.accuracy.shards import QUESTIONS
from harness.records.cell import Cell
from harness.run.deal import Deal, Unit

TASKS = {
    "vqav2": 26_729, "gqa": 12_578, "seed": 14_232, "pope": 9_000, "textvqa": 5_000,
    "mmbench": 4_377, "vizwiz": 4_319, "mme": 2_374, "scienceqa": 2_017,
}  # fmt: skip
"""Questions; the first is a part of VQAv2's validation set."""
CELLS = [Cell.parse("unpruned")] + [
    Cell.parse(f"{method}@{budget}")
    for budget in (192, 128, 64)
    for method in ("vitcop", "fastv", "sparsevlm", "visionzip", "pyramiddrop", "fastervlm")
]
UNPRUNED, PRUNED = 0.125, 0.08
"""Seconds a question on one GPU."""
BEGIN, DOLLARS = 60.0, 2.5
"""Seconds until a worker has its model; of a GPU hour."""


@dataclass(frozen=True)
class Run:
    """`seconds` from start to end; `busy`: the share in which GPUs answer; `images_again`: shards
    whose images went through more than one tower; `spread`: the largest difference between the
    shares of their questions that two cells had answered at the same time.
    """

    seconds: float
    busy: float
    images_again: int
    spread: float


def units() -> list[Unit]:
    counts = {task: -(-questions // QUESTIONS) for task, questions in TASKS.items()}
    return [
        Unit(i, cell, task, shard, (0,) * min(QUESTIONS, questions - shard * QUESTIONS))
        for shard in range(max(counts.values()))
        for task, questions in TASKS.items()
        if shard < counts[task]
        for i, cell in enumerate(CELLS)
    ]


def seconds_of(unit: Unit) -> float:
    return len(unit.documents) * (UNPRUNED if unit.cell.budget is None else PRUNED)


def simulated(workers: int) -> Run:
    every = units()
    deal, total = Deal(every), sum(map(seconds_of, every))
    free = [(BEGIN, str(worker)) for worker in range(workers)]
    seen: dict[tuple[int, str], set[str]] = {}
    done, spread, end = [0] * len(CELLS), 0, 0.0
    questions = sum(TASKS.values())
    while free:
        now, worker = heapq.heappop(free)
        unit = deal.next(worker)
        if unit is None:
            end = max(end, now)
            continue
        seen.setdefault((unit.shard, unit.task), set()).add(worker)
        done[unit.piece] += len(unit.documents)
        spread = max(spread, max(done) - min(done))
        heapq.heappush(free, (now + seconds_of(unit), worker))
    again = sum(len(who) - 1 for who in seen.values())
    return Run(end, total / (end * workers), again, spread / questions)


def table() -> str:
    lines = ["| GPUs | Hours | Answering | Shards whose images two towers see | Cost |"]
    lines.append("| ---: | ---: | ---: | ---: | ---: |")
    for workers in (1, 8, 64):
        run = simulated(workers)
        hours = run.seconds / 3600
        cost = f"${hours * workers * DOLLARS:,.0f}"
        again = f"{run.images_again} of {len(units()) // len(CELLS)}"
        lines.append(f"| {workers} | {hours:.1f} | {100 * run.busy:.0f} % | {again} | {cost} |")
    return "\n".join(lines)


def picture(path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    counts = [2**n for n in range(9)]
    speeds = [simulated(1).seconds / simulated(n).seconds for n in counts]
    assert all(slow <= fast for slow, fast in pairwise(speeds))
    with rc_context({"svg.hashsalt": "crew", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        axes.loglog(counts, counts, "--", color="0.7", base=2, label="in proportion")
        axes.loglog(counts, speeds, "o-", base=2, label="the scheduler")
        axes.set(xlabel="workers", ylabel="speed-up", xticks=counts, xticklabels=counts)
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    print(table())
    if len(sys.argv) > 1:
        picture(Path(sys.argv[1]))
