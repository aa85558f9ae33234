"""Faults planted into a method or the runtime, measured on the tiny model and named by the gate."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic_records import COMMON, PROVENANCE
from torch import Tensor

from baselines.fastv import FastV, _rank
from harness.accuracy.instrument import Accuracy
from harness.analysis.told import told
from harness.cli.app import main
from harness.models.load import load_model
from harness.records.cell import Cell, MethodSpec
from harness.records.store import Store
from harness.regress.findings import Finding, Verdict
from harness.regress.records import Limits, record_findings
from harness.regress.sources import read_directory
from harness.run.cells import Work
from harness.run.progress import Progress
from methods.generation import Generation, planned
from methods.interface import Cut, DecoderStage, Plan, Positions, Read, Selection
from methods.tensors import best_in_order

TASK, LIMIT = "embedded_count", 2
FASTV = Cell(MethodSpec("fastv"), 64)


@pytest.fixture(scope="module")
def runner() -> Accuracy:
    return Accuracy(load_model("tiny", "cpu"), [TASK], LIMIT)


@pytest.fixture
def measure(runner: Accuracy, tmp_path: Path):
    """The records of FastV as it is at the moment, through files."""

    def run(name: str, asked: Accuracy = runner):
        planned.cache_clear()
        progress = Progress(io.StringIO(), told)
        store = Store(tmp_path / name, progress.say)
        work = Work([FASTV], {}, COMMON, PROVENANCE, store, progress)
        work.records([asked])
        return read_directory(tmp_path / name)

    yield run
    planned.cache_clear()


def one_token_too_many_in_layer_2(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = FastV.solve

    def faulty(self, budget, sizes) -> Plan:
        plan = solve(self, budget, sizes)
        stages = [
            DecoderStage(name, layer, (Read.LAST_ATTENTION,), partial(_rank, tokens=tokens))
            for name, layer, tokens in (
                ("rank", 2, plan.entering[2] + 1),
                ("again", 3, plan.entering[3]),
            )
        ]
        entering = (*plan.entering[:2], plan.entering[2] + 1, *plan.entering[3:])
        return replace(plan, entering=entering, decoder=tuple(stages))

    monkeypatch.setattr(FastV, "solve", faulty)


def one_more_kv_row_in_layer_5(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Generation.leave

    def faulty(self: Generation, cache: Any) -> None:
        layer = cache.layers[5]
        layer.keys = torch.cat([layer.keys[..., :1, :], layer.keys], dim=-2)
        leave(self, cache)

    monkeypatch.setattr(Generation, "leave", faulty)


def ties_to_the_higher_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baselines.fastv._rank", partial(coarse, best=last_of_equals))


def positions_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = FastV.solve

    def faulty(self, budget, sizes) -> Plan:
        plan = solve(self, budget, sizes)
        moved = [replace(stage, positions=Positions.CONTIGUOUS) for stage in plan.decoder]
        return replace(plan, decoder=tuple(moved))

    monkeypatch.setattr(FastV, "solve", faulty)


def coarse(view, tokens: int, best=best_in_order) -> Selection:
    """FastV's selection from scores with many ties."""
    scores = (view[Read.LAST_ATTENTION].mean(1) * 1000).round()
    return Selection(Cut(best(scores, tokens)))


def last_of_equals(scores: Tensor, count: int) -> Tensor:
    return (scores.shape[-1] - 1 - best_in_order(scores.flip(-1), count)).flip(-1)


def named(before, after) -> list[Finding]:
    findings = record_findings(before, after, Limits())
    assert {f.cell for f in findings} == {"fastv@64"}
    return [f for f in findings if f.verdict is Verdict.WORSE]


@pytest.mark.parametrize(
    ("plant", "quantity", "why"),
    [
        (one_token_too_many_in_layer_2, "tokens", "layer 2: 30 → 31 in 2 of 2 questions"),
        (one_more_kv_row_in_layer_5, f"status of {TASK}", "layer 5 caches "),
        (ties_to_the_higher_index, "selections", "stage rank before layer 2: 2 of 2 questions"),
    ],
)
def test_a_planted_fault_is_named_and_the_untouched_run_passes(
    measure, monkeypatch, plant, quantity, why
):
    if plant is ties_to_the_higher_index:
        monkeypatch.setattr("baselines.fastv._rank", coarse)
    before, untouched = measure("before"), measure("untouched")
    plant(monkeypatch)
    after = measure("after")
    assert named(before, untouched) == []
    found = {f.quantity: f.why for f in named(before, after)}
    assert why in found[quantity]
    if quantity != "tokens":
        assert "tokens" not in found


def test_wrong_positions_change_no_count_and_are_seen_in_the_first_token(measure, monkeypatch):
    """The counts hold, so only answers and accuracy can tell; on the tiny model answers do."""
    before = measure("before")
    positions_counted_anew(monkeypatch)
    after = measure("after")
    firsts = [records[0].samples.first_tokens for records in (before, after)]
    assert firsts[0] != firsts[1]
    assert {f.quantity for f in named(before, after)} <= {"answers", "accuracy"}


@pytest.mark.slow
def test_wrong_positions_cost_accuracy_where_answers_depend_on_place(measure, monkeypatch):
    task = "embedded_position"
    asked = Accuracy(load_model("embedded", "cpu"), [task], limit=100, batch_size=8)
    before, untouched = measure("before", asked), measure("untouched", asked)
    positions_counted_anew(monkeypatch)
    after = measure("after", asked)
    assert named(before, untouched) == []
    found = {f.quantity: f for f in named(before, after)}
    assert found.keys() == {"answers", "accuracy"}
    assert found["accuracy"].difference.value < -5


@pytest.mark.slow
def test_a_baseline_is_run_again_on_the_spot(tmp_path, capsys):
    """End to end: the records of the command itself, compared with a second run of it."""
    common = ["--model", "tiny", "--device", "cpu", "--tasks", TASK, "--budgets", "64"]
    records, options = tmp_path / "records", ["--limit", "2", "--repeats", "1"]
    assert main(["compare", "--methods", "fastv", *common, *options, "-o", str(records)]) == 0
    again = ["regress", "--against", str(records), "--output", str(tmp_path / "again")]
    assert main(again) == 0
    assert "No regression" in capsys.readouterr().out
    assert len(list((tmp_path / "again").glob("*.json.gz"))) == 3


@pytest.mark.slow
def test_a_renamed_argument_makes_every_cell_of_the_baseline_a_regression(
    tmp_path, capsys, monkeypatch
):
    """As transformers 5.24 did it: the KV cache is no longer found, whatever is measured."""
    common = ["--model", "tiny", "--device", "cpu", "--tasks", TASK, "--budgets", "64"]
    records, options = tmp_path / "records", ["--limit", "2", "--repeats", "2"]
    assert main(["compare", "--methods", "fastv", *common, *options, "-o", str(records)]) == 0
    monkeypatch.setattr("methods.caches.CACHE_ARGUMENT", "another_name")
    file = tmp_path / "gate.json"
    again = ["regress", "--against", str(records), "--output", str(tmp_path / "again")]
    assert main([*again, "--json", str(file)]) == 1
    worse = [f for f in json.loads(file.read_text())["findings"] if f["verdict"] == "worse"]
    assert {f["cell"] for f in worse} == {"unpruned", "fastv@64"}
    assert all(f["why"] for f in worse)
    assert "Traceback" not in "".join(capsys.readouterr())
