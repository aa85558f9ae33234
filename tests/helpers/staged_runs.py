"""A comparison and lmms-eval's command line, each in a process of its own on staged data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.records.file import read_all
from harness.records.record import Record

Printed = dict[str, dict[str, float]]


def run(home: Path, *command: str) -> None:
    environment = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def printed(home: Path, output: Path, model: Path, tasks: Sequence[str], arguments: str) -> Printed:
    """What lmms-eval's command line prints of every task, by metric."""
    run(
        home,
        *("lmms_eval", "--model", "pruned", "--tasks", ",".join(tasks), "--batch_size", "1"),
        *("--model_args", f"pretrained={model},device=cpu{arguments}"),
        # some scores are drawn, and threads would draw in any order
        *("--process_docs_parallel", "1", "--output_path", str(output)),
    )
    (file,) = output.glob(f"*__{model.name}/*_results.json")  # beside what tasks submit
    return {
        task: {key.split(",")[0]: value for key, value in found.items()}
        for task, found in json.loads(file.read_text())["results"].items()
    }


def compared(
    home: Path, output: Path, model: Path, tasks: Sequence[str], words: str
) -> list[Record]:
    run(
        home,
        *("harness", "compare", *words.split(), "--model", str(model), "--tasks", ",".join(tasks)),
        *("--no-efficiency", "--device", "cpu", "-o", str(output)),
    )
    return list(read_all([output], pytest.fail))


def both(
    home: Path, model: Path, tasks: Sequence[str], words: str, cells: Mapping[str, str]
) -> tuple[list[Record], dict[str, Printed]]:
    """Our records, and what lmms-eval printed by cell, of arguments: two processes at a time."""
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(compared, home, home / "records", model, tasks, words)
        theirs = [
            pool.submit(printed, home, home / cell, model, tasks, arguments)
            for cell, arguments in cells.items()
        ]
        found = dict(zip(cells, (their.result() for their in theirs), strict=True))
        return ours.result(), found
