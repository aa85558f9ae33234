"""Cells run by lmms-eval on the embedded tasks: what the record gets, and what is shared."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.accuracy import answers
from harness.accuracy.answers import Answerer, SampleError
from harness.accuracy.generated import MOST_LIKELY
from harness.accuracy.instrument import Accuracy
from harness.accuracy.lmms import tasks as lmms_tasks
from harness.accuracy.lmms.tasks import members
from harness.cli.words import parse_methods
from harness.embedded import benchmark, benchmarks, export
from harness.errors import BadInput, ScoringError
from harness.models.load import LoadedModel, load_model
from harness.records.cell import Cell
from harness.records.selections import mask, rows_of
from harness.run.checked import with_members
from harness.run.instruments import instruments_of
from harness.run.request import Request
from methods import InfeasibleBudgetError

TASK = "embedded_count"
CACHE = "lmms_eval.api.task._resolve_hf_datasets_cache_dir"
LIMIT = 6
CELLS = [Cell.parse(text) for text in ("unpruned", "fastv@64", "vitcop@64", "random@64#2")]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("tiny", "cpu")


@pytest.fixture(scope="module")
def shared(loaded: LoadedModel) -> Accuracy:
    return Accuracy(loaded, benchmark.TASKS, LIMIT, batch_size=4)


@pytest.fixture(scope="module")
def measured(shared: Accuracy) -> list[dict[str, Any]]:
    return [shared.run(cell, TASK) for cell in CELLS]


@pytest.fixture
def alone(loaded: LoadedModel, shared: Accuracy):
    """A runner that shares the tasks' files with others, and nothing else."""

    def build(batch_size: int = 4, store_bytes: int = 0) -> Accuracy:
        own = Accuracy(loaded, [TASK], LIMIT, batch_size, store_bytes)
        own.tasks = shared.tasks
        return own

    return build


def texts(result: dict[str, Any]) -> list[str]:
    return [sample["answer"] for sample in result["samples"]]


def likelihoods(result: dict[str, Any]) -> list[list[float]]:
    return [sample["first_token"]["logprobs"] for sample in result["samples"]]


def test_every_question_is_recorded(shared: Accuracy, measured: list[dict[str, Any]]) -> None:
    assert shared.items(TASK) == LIMIT
    items = benchmark.items(TASK)[:LIMIT]
    for result in measured:
        samples = result["samples"]
        assert [s["item"] for s in samples] == [f"{TASK}/{i}" for i in range(LIMIT)]
        assert [s["target"] for s in samples] == [item.answer for item in items]
        assert [s["score"] for s in samples] == [float(s["answer"] == s["target"]) for s in samples]
        assert result["metric"] == "acc"
        assert sum(row["samples"] for row in result["ledger"]) == LIMIT


def test_questions_about_one_image_name_it_alike(shared: Accuracy) -> None:
    ids = {item.image_id for item in benchmark.items(TASK)[:LIMIT]}
    images = {
        (benchmark.items(task)[i].image_id, sample["image"])
        for task in (TASK, "embedded_digits")
        for i, sample in enumerate(shared.run(CELLS[1], task)["samples"])
    }
    both = ids & {item.image_id for item in benchmark.items("embedded_digits")[:LIMIT]}
    assert both
    assert len(images) == len({name for _, name in images}) == len({name for name, _ in images})


def test_counts_are_the_plans(measured: list[dict[str, Any]]) -> None:
    for cell, result in zip(CELLS, measured, strict=True):
        for row in result["ledger"]:
            assert row["entering"] == row["planned"]
            assert row["cached"] == [entered + row["text"] for entered in row["entering"]]
            mean = sum(row["entering"]) / len(row["entering"])
            assert abs(mean - (cell.budget or 576)) <= 1


def test_first_token_holds_the_most_likely_in_order(measured: list[dict[str, Any]]) -> None:
    for sample in measured[0]["samples"]:
        first = sample["first_token"]
        assert len(first["ids"]) == len(set(first["ids"])) == MOST_LIKELY
        assert first["logprobs"] == sorted(first["logprobs"], reverse=True)
        assert 0.5 < np.exp(first["logprobs"]).sum() <= 1.0001


def test_selections_say_what_was_kept(measured: list[dict[str, Any]]) -> None:
    unpruned, fastv, vitcop, drawn = (result["samples"] for result in measured)
    assert all(sample["selections"] == [] for sample in unpruned)
    for sample, other in zip(fastv, drawn, strict=True):
        assert [s["layer"] for s in sample["selections"]] == [2]
        assert len(rows_of(other["selections"][0]["kept"])) == 64
    kept = [(s["layer"], s["rows"], len(rows_of(s["kept"]))) for s in vitcop[0]["selections"]]
    entering = measured[2]["ledger"][vitcop[0]["ledger"]]["entering"]
    assert kept[0] == (None, 577, entering[0])
    assert [rows for _, rows, _ in kept[1:]] == [out for _, _, out in kept[:-1]]
    assert kept[-1][2] == entering[-1]
    merged = vitcop[0]["selections"][1]
    assert len(merged["groups"]) == merged["rows"]
    assert max(merged["groups"]) < kept[1][2]


def test_random_draws_differ_by_seed_and_not_by_batch(shared: Accuracy, alone) -> None:
    def kept(runner: Accuracy, cell: str) -> list[str]:
        samples = runner.run(Cell.parse(cell), TASK)["samples"]
        return [sample["selections"][0]["kept"] for sample in samples]

    assert kept(shared, "random@64#2") == kept(alone(batch_size=1), "random@64#2")
    assert kept(shared, "random@64#2") != kept(shared, "random@64#3")


def test_sharing_changes_no_answer(measured: list[dict[str, Any]], alone) -> None:
    for cell, together in zip(CELLS, measured, strict=True):
        own = alone().run(cell, TASK)
        assert texts(own) == texts(together)
        np.testing.assert_allclose(likelihoods(own), likelihoods(together), atol=1.1e-4)
        assert own["ledger"] == together["ledger"]


def test_later_cells_neither_read_nor_encode_images(
    shared: Accuracy, measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("an image is handled again")

    monkeypatch.setattr(Answerer, "_read", fail)
    handle = shared.model.model.model.vision_tower.register_forward_pre_hook(fail)
    try:
        again = shared.run(CELLS[2], TASK)
    finally:
        handle.remove()
    assert texts(again) == texts(measured[2])


def test_past_its_bound_the_store_recomputes(alone, measured: list[dict[str, Any]]) -> None:
    small = alone(store_bytes=500_000)
    results = [small.run(cell, TASK) for cell in CELLS[1:3]]
    assert [texts(result) for result in results] == [texts(result) for result in measured[1:3]]
    assert 0 < small.store.stored_bytes <= 500_000


def test_batches_change_no_answer(measured: list[dict[str, Any]], alone) -> None:
    for cell, together in zip(CELLS, measured, strict=True):
        one = alone(batch_size=1).run(cell, TASK)
        assert texts(one) == texts(together)
        np.testing.assert_allclose(likelihoods(one), likelihoods(together), atol=1.1e-4)


def test_the_tower_runs_once_for_all_that_is_compared(
    loaded: LoadedModel, shared: Accuracy, tmp_path: Path
) -> None:
    request = Request(
        methods=parse_methods("hiprune"), budgets=(64,), tasks=(TASK,), limit=2, batch_sizes=(2,),
        efficiency=False, output=tmp_path / "run", model="tiny",
    )  # fmt: skip
    (accuracy,), runs = instruments_of(request, loaded, 1), []
    accuracy.tasks = shared.tasks
    tower = loaded.model.model.vision_tower
    handle = tower.register_forward_hook(lambda *_: runs.append(1))
    accuracy.run(Cell.parse("unpruned"), TASK)
    before = len(runs)
    accuracy.run(Cell.parse("hiprune@64"), TASK)
    handle.remove()
    assert len(runs) == before > 0


def test_running_scores_are_the_final_ones(shared: Accuracy) -> None:
    heard: list[float | None] = []
    result = shared.run(CELLS[1], TASK, heard.append)
    assert sorted(heard) == sorted(sample["score"] for sample in result["samples"])


def test_exception_in_a_sample_fails_the_cell(alone, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Answerer._read

    def planted(self: Answerer, question: answers.Question):
        if question.item == f"{TASK}/5":
            raise OSError("truncated image")
        return read(self, question)

    monkeypatch.setattr(Answerer, "_read", planted)
    with pytest.raises(SampleError, match=rf"{TASK}/\d+ to {TASK}/\d+: OSError: truncated image"):
        alone().run(CELLS[1], TASK)
    with pytest.raises(SampleError, match=f"^{TASK}/5: OSError"):
        alone(batch_size=1).run(CELLS[1], TASK)


def test_exception_in_the_scoring_is_not_retried_into_a_riddle(
    alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def process_results(doc: dict, results: list[str]) -> dict[str, float]:
        raise KeyError("answer")

    runner = alone()
    monkeypatch.setattr(runner.tasks.load(TASK).config, "process_results", process_results)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    with pytest.raises(ScoringError, match="scoring failed: KeyError: 'answer'") as raised:
        runner.run(CELLS[1], TASK)
    assert [s["score"] for s in raised.value.answered["samples"]] == [None] * LIMIT
    with pytest.raises(SampleError, match=f"{TASK}/0: scoring failed: KeyError: 'answer'"):
        runner.run(CELLS[1], TASK, lambda score: None)


def test_tasks_of_others_are_scored_once_at_the_end(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Accuracy
) -> None:
    """Tasks of ours taken for lmms-eval's, which need the network."""
    monkeypatch.setattr(CACHE, lambda: str(tmp_path / "datasets"))
    export.write(tmp_path / "benchmark", [TASK])
    index = lmms_tasks._index(str(tmp_path / "benchmark"))
    expected = shared.run(CELLS[1], TASK)
    monkeypatch.setattr(benchmark, "TASKS", ())
    monkeypatch.setattr(benchmarks, "TASKS", ())
    monkeypatch.setattr(lmms_tasks, "_shipped", lambda: index)
    words = frozenset({TASK, "embedded"})
    monkeypatch.setattr(lmms_tasks, "_words_of_task_files", lambda: (words, [TASK]))
    assert members([TASK]) == members(["embedded", TASK]) == (TASK,)
    request = Request(methods=(), budgets=(), model="tiny", output=tmp_path, tasks=("embedded",))
    assert with_members(request).tasks == (TASK,)
    with pytest.raises(BadInput, match="did you mean 'embedded_count'"):
        members(["embeded_count"])
    runner = Accuracy(loaded, [TASK], LIMIT, batch_size=4)
    assert runner.task_version(TASK) == Accuracy(loaded, [TASK]).task_version(TASK)
    heard: list[float | None] = []
    result = runner.run(CELLS[1], TASK, heard.append)
    assert heard == [None] * LIMIT
    assert result["samples"] == expected["samples"]


def test_infeasible_budget_comes_through_as_itself(shared: Accuracy) -> None:
    with pytest.raises(InfeasibleBudgetError):
        shared.run(Cell.parse("vitcop@2"), TASK)


def test_nothing_is_printed_and_random_states_stay(
    shared: Accuracy, capfd: pytest.CaptureFixture[str]
) -> None:
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), float(torch.rand(1))
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    shared.run(CELLS[1], TASK)
    assert (random.random(), np.random.rand(), float(torch.rand(1))) == expected
    assert capfd.readouterr() == ("", "")


def test_versions_of_embedded_tasks_need_no_data(loaded: LoadedModel) -> None:
    runner = Accuracy(loaded, benchmark.TASKS)
    assert runner.task_version(TASK).startswith(benchmark.VERSION)
    assert not runner.tasks._loaded


@pytest.mark.parametrize(("rows", "count"), [([0, 7, 8, 576], 577), ([], 3), ([2], 3)])
def test_masks_come_back(rows: list[int], count: int) -> None:
    assert rows_of(mask(rows, count)) == rows
    assert len(mask(rows, count)) == 2 * -(-count // 8)


@pytest.mark.slow
def test_tasks_of_lmms_eval_are_known_by_name_and_groups_are_their_members() -> None:
    assert members([TASK, "pope", "gqa"]) == (TASK, "pope", "gqa")
    with pytest.raises(BadInput, match="unknown task 'pop'; did you mean 'pope'"):
        members(["pop"])
    pope = ("pope_adv", "pope_pop", "pope_random")
    assert members(["pope_adv", "pope_full", "gqa"]) == (*pope, "gqa")
    assert members(["scienceqa_full"]) == ("scienceqa", "scienceqa_img")
    assert len(members(["refcoco"])) == 8
    # a tag, a group of a group, and groups that are written down inside another
    assert set(members(["refcoco_bbox"])) < set(members(["refcoco"]))
    assert set(members(["mathvista_testmini"])) < set(members(["mathvista"]))
    assert members(["jmmmu"])
    assert not {"jmmmu", "culture_specific"} & set(members(["jmmmu"]))
    with pytest.raises(BadInput, match="unknown task 'olympiadbench_testmini'; did you mean"):
        members(["olympiadbench"])
