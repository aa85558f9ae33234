"""What sharing the vision tower saves: seven cells that share it, and each cell by itself.

`python tests/benchmarks/sharing.py [QUESTIONS] > results/sharing.json`. Both ways in one process,
cell by cell in turn, the answers compared.
"""

from __future__ import annotations

import json
import sys

from harness.accuracy.instrument import Accuracy
from harness.models.load import load_model
from harness.models.placement import machine
from harness.records.cell import Cell, MethodSpec, unpruned
from harness.records.provenance import provenance

TASK = "embedded_count"
CELLS = [
    unpruned(),
    *(Cell(MethodSpec(name), budget) for budget in (192, 128, 64) for name in ("vitcop", "fastv")),
]


def main(questions: int) -> None:
    model = load_model("embedded", "cpu", "float32", "sdpa")
    Accuracy(model, [TASK], 2).run(unpruned(), TASK)  # imports and the tasks' files
    shared = Accuracy(model, [TASK], questions)
    seconds: dict[str, dict[str, float]] = {"shared": {}, "apart": {}}
    for cell in CELLS:
        alone = Accuracy(model, [TASK], questions, store_bytes=0)
        runs = {"shared": shared.run(cell, TASK), "apart": alone.run(cell, TASK)}
        answers = {how: [s["answer"] for s in run["samples"]] for how, run in runs.items()}
        if answers["shared"] != answers["apart"]:
            raise SystemExit(f"{cell.text}: sharing the tower changed an answer")
        for how, run in runs.items():
            seconds[how][cell.text] = round(run["wall_seconds"], 3)
    where = provenance(machine("cpu"))
    print(json.dumps({"questions": questions, "seconds": seconds, **where}, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
