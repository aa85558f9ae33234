"""The trained model's answers on a GPU against those on the CPU, pruned by every method.

`python tests/benchmarks/check_answers.py --questions 200`: the first questions of each embedded
task, in equal parts; float32 on the CPU is the reference for float32 and bfloat16 on the device.
Plain `generate`, no lmms-eval. Exit status 1 where float32 agrees on fewer than 98 % of the
answers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from harness.cli.words import parse_methods
from harness.embedded import benchmark
from harness.embedded.training.evaluate import answer
from harness.models.load import load_model
from harness.models.placement import machine
from harness.records.cell import Cell, budget_of
from harness.records.file import write_atomically
from harness.records.provenance import provenance
from methods import attach

BATCH = 20
LEAST = 0.98
"""Of float32: two answers may be so near each other that another order of summation decides."""


def answers(cells: list[Cell], items: tuple[benchmark.Item, ...], device: str, dtype: str) -> Any:
    """Answers by cell."""
    loaded = load_model("embedded", device, dtype)
    found = {}
    for cell in cells:
        with attach(loaded.model, cell.method.build(), budget_of(cell)):
            found[cell.text] = answer(loaded.model, loaded.processor, items, BATCH)
    return found


def shares(found: list[str], others: list[str]) -> float:
    return sum(a == b for a, b in zip(found, others, strict=True)) / len(others)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False  # float32 shall be float32
    each = options.questions // len(benchmark.TASKS)
    items = tuple(item for task in benchmark.TASKS for item in benchmark.items(task)[:each])
    cells = [
        Cell.parse("unpruned"),
        *(Cell(s, options.budget) for s in parse_methods(options.methods)),
    ]
    placements = {
        "reference": ("cpu", "float32"),
        "float32": (options.device, "float32"),
        "bfloat16": (options.device, "bfloat16"),
    }
    found = {name: answers(cells, items, *where) for name, where in placements.items()}
    right = [item.answer for item in items]
    print(f"{len(items)} questions; agreement with float32 on the CPU (right answers)")
    least = 1.0
    for cell in cells:
        reference = found["reference"][cell.text]
        agreed = {name: shares(found[name][cell.text], reference) for name in placements}
        least = min(least, agreed["float32"])
        print(
            f"{cell.text}: "
            + ", ".join(
                f"{name} {agreed[name]:.1%} ({shares(found[name][cell.text], right):.1%})"
                for name in placements
            )
        )
    content = {
        "items": [item.item_id for item in items],
        "answers": found,
        "digest": benchmark.digest(),
        **provenance(machine(options.device)),
    }
    path = options.output / "answers.json"
    write_atomically(path, json.dumps(content, indent=1).encode())
    return int(least < LEAST)


if __name__ == "__main__":
    raise SystemExit(main())
