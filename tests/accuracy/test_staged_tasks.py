"""The scores of lmms-eval's own tasks are those that its command line prints of the same model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from from_bodies import bodies_in, tables
from staged_tasks import TASKS, stage

ROWS = 24


def run(home: Path, *command: str) -> None:
    environment = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def printed(directory: Path) -> dict[str, dict[str, float]]:
    (file,) = directory.rglob("*results.json")
    return {
        task: {key.split(",")[0]: value for key, value in found.items()}
        for task, found in json.loads(file.read_text())["results"].items()
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    stage(home, ROWS)
    return home


@pytest.fixture(scope="module")
def ours(home, tmp_path_factory) -> list[dict]:
    output = tmp_path_factory.mktemp("records")
    run(
        home,
        *("harness", "compare", "--methods", "vitcop", "--budgets", "64"),
        *("--tasks", ",".join(TASKS), "--no-efficiency", "--device", "cpu", "-o", str(output)),
    )
    return bodies_in(output, pytest.fail)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "arguments"), [("unpruned", ""), ("vitcop@64", ",method=vitcop,budget=64")]
)
def test_scores_are_those_of_lmms_evals_command_line(home, ours, tmp_path, cell, arguments):
    run(
        home,
        *("lmms_eval", "--model", "pruned", "--tasks", ",".join(TASKS), "--batch_size", "1"),
        *("--model_args", f"pretrained=embedded,device=cpu{arguments}"),
        *("--output_path", str(tmp_path)),
    )
    theirs = printed(tmp_path)
    found = {r["identity"]["task"]: r for r in ours if r["cell"] == cell}
    assert found.keys() == set(TASKS)
    for task, record in found.items():
        assert len(record["samples"]) == ROWS
        assert record["printed"]
        for metric, value in record["printed"].items():
            assert value == theirs[task][metric], (task, metric)
    assert 0 < found["pope"]["printed"]["pope_accuracy"] < 1


@pytest.mark.slow
def test_a_table_of_several_units_averages_what_is_left_of_unpruned(ours):
    (table,) = tables(ours)
    titles = [column.title for column in table.columns]
    assert {"pope accuracy", "pope F1", "mme total", "mme perception"} <= set(titles)
    assert "Mean, % of unpruned" in titles
    rows = {row[0][0]: row for row in table.rows}
    assert float(rows["Unpruned"][titles.index("mme total")][0]) > 100
