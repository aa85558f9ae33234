"""A comparison with stand-ins for what measures: order, resumption, failures, interruption."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_records import COMMON, PROVENANCE, accuracy, efficiency_cell

from harness import record as records
from harness.cells import Cell, MethodSpec
from harness.compare import Tools, perform
from harness.errors import BadInput
from harness.progress import Progress
from harness.request import Request, cells_of, infeasible_cells, parse_budgets, parse_methods
from harness.runs import Work
from harness.store import Store

TASKS = ("count", "digits")


class Runner:
    """Answers from nothing; `fail` and `stop` name the (cell, task) at which it does not."""

    def __init__(self, fail=(), stop=None, version="1.0"):
        self.ran, self.fail, self.stop, self.version = [], fail, stop, version

    def task_version(self, task):
        return self.version

    def items(self, task):
        return 4

    def run(self, cell, task, on_item):
        if (cell.text, task) == self.stop:
            raise KeyboardInterrupt
        self.ran.append((cell.text, task))
        if (cell.text, task) in self.fail:
            raise RuntimeError("no memory\nleft")
        for item_score in (1.0, None, 0.0, 1.0):
            on_item(item_score)
        made = accuracy(cell.method.text, cell.budget, task, seed=cell.seed)
        return {
            key: made[key]
            for key in ("parameters", "ledger", "samples", "shape", "metric", "wall_seconds")
        }


class Timer:
    def __init__(self, error=None, fail=()):
        self.calls, self.error, self.fail = [], error, fail

    def __call__(self, cells, *, on_round):
        self.calls.append([cell.text for cell in cells])
        on_round(1, 2)
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


# order and records


def test_unpruned_runs_first_and_once_then_budget_by_budget(tmp_path):
    runner, timer = Runner(), Timer()
    assert run(asked(tmp_path), runner, timer)[0] == 0
    order = ["unpruned", "vitcop@192", "fastv@192", "vitcop@64", "fastv@64"]
    assert runner.ran == [(cell, task) for cell in order for task in TASKS]
    assert timer.calls == [order]
    assert len(list(tmp_path.glob("accuracy-*.json.gz"))) == 10
    assert len(list(tmp_path.glob("efficiency-*.json.gz"))) == 1


def test_records_hold_identity_method_and_origin(tmp_path):
    run(asked(tmp_path, methods=(), budgets=(64,), limit=7), Runner())
    (path, _) = sorted(tmp_path.glob("*.json.gz"))
    record = records.read(path)
    assert record["identity"] == {
        "method": "unpruned",
        "settings": {},
        "budget": None,
        "seed": 0,
        "task": "count",
        "task_version": "1.0",
        "limit": 7,
        **COMMON,
    }
    assert record["method"] == {"name": "unpruned", "label": "Unpruned", "venue": "", "link": ""}
    assert record["status"] == "ok"
    assert record["provenance"]["created"] > PROVENANCE["created"]


def test_controls_are_uniform_and_five_seeds_of_which_one_is_timed(tmp_path):
    request = asked(tmp_path, methods=parse_methods("fastv"), budgets=(64,), controls=True, seed=2)
    timer = Timer()
    run(request, Runner(), timer)
    randoms = [f"random@64#{seed}" for seed in range(2, 7)]
    cells = ["unpruned#2", "fastv@64#2", "uniform@64#2", *randoms]
    assert [cell.text for cell in cells_of(request)] == cells
    assert timer.calls == [cells[:4]]


def test_both_tables_are_printed_and_kept_beside_the_records(tmp_path, capsys):
    run(asked(tmp_path), Runner(), Timer())
    printed = capsys.readouterr().out
    assert printed.index("Accuracy") < printed.index("Efficiency")
    for name in ("accuracy.md", "accuracy.csv", "efficiency.md", "efficiency.csv"):
        assert "ViTCoP" in (tmp_path / name).read_text()


def test_the_report_is_written_beside_the_records(tmp_path):
    assert run(asked(tmp_path, report=True), Runner(), Timer())[0] == 0
    assert "ViTCoP" in (tmp_path / "report.html").read_text()


def test_tables_are_of_this_configuration_only(tmp_path, capsys):
    run(asked(tmp_path, methods=parse_methods("vitcop")), Runner())
    capsys.readouterr()
    run(asked(tmp_path, methods=parse_methods("fastv"), limit=2), Runner())
    assert "ViTCoP" not in capsys.readouterr().out
    assert "ViTCoP" not in (tmp_path / "accuracy.md").read_text()


# resumption


def test_the_same_command_again_runs_nothing_and_says_so(tmp_path, capsys):
    run(asked(tmp_path), Runner(), Timer())
    first = capsys.readouterr().out
    runner, timer = Runner(), Timer()
    status, said = run(asked(tmp_path), runner, timer)
    assert (status, runner.ran, timer.calls) == (0, [], [])
    assert f"reused 10 of 10 accuracy records from {tmp_path}" in said
    assert f"reused the efficiency record from {tmp_path}" in said
    assert capsys.readouterr().out == first


def test_fresh_measures_all_again(tmp_path):
    run(asked(tmp_path), Runner(), Timer())
    runner, timer = Runner(), Timer()
    assert "reused" not in run(asked(tmp_path, fresh=True), runner, timer)[1]
    assert len(runner.ran) == 10
    assert len(timer.calls) == 1


def test_another_method_only_runs_its_own_cells_but_is_timed_with_all(tmp_path):
    run(asked(tmp_path, methods=parse_methods("fastv")), Runner(), Timer())
    runner, timer = Runner(), Timer()
    run(asked(tmp_path), runner, timer)
    assert {cell for cell, _ in runner.ran} == {"vitcop@192", "vitcop@64"}
    assert len(timer.calls[0]) == 5


@pytest.mark.parametrize(
    "identity",
    [{**COMMON, key: "bfloat16"} for key in COMMON if key != "versions"]
    + [{**COMMON, "versions": {**COMMON["versions"], "torch": "3"}}],
)
def test_whatever_could_change_a_record_prevents_its_reuse(tmp_path, identity):
    run(asked(tmp_path), Runner(), Timer())
    runner, timer = Runner(), Timer()
    run(asked(tmp_path), runner, timer, identity=identity)
    assert len(runner.ran) == 10
    assert len(timer.calls) == 1


@pytest.mark.parametrize("change", [{"limit": 3}, {"seed": 1}])
def test_limit_and_seed_prevent_reuse(tmp_path, change):
    run(asked(tmp_path), Runner())
    runner = Runner()
    run(asked(tmp_path, **change), runner)
    assert len(runner.ran) == 10


def test_task_version_and_method_settings_prevent_reuse(tmp_path):
    request = asked(tmp_path, methods=parse_methods("fastv"), budgets=(64,))
    run(request, Runner())
    runner = Runner(version="2.0")
    run(request, runner)
    assert len(runner.ran) == 4
    runner = Runner()
    run(replace(request, methods=parse_methods("fastv:layer=3")), runner)
    assert {cell for cell, _ in runner.ran} == {"fastv:layer=3@64"}


def test_an_interruption_keeps_what_is_finished_and_the_next_run_goes_on(tmp_path, capsys):
    stop = ("fastv@192", "digits")
    first = Runner(stop=stop)
    assert run(asked(tmp_path), first, Timer())[0] == 130
    told = capsys.readouterr()
    assert told.out == ""
    assert f"records of all finished cells are kept in {tmp_path}, 5 of them" in told.err
    assert "the same command goes on from there" in told.err
    second, timer = Runner(), Timer()
    status, said = run(asked(tmp_path), second, timer)
    assert status == 0
    assert "reused 5 of 10" in said
    assert second.ran[0] == stop
    assert not set(first.ran) & set(second.ran)
    assert len(first.ran + second.ran) == 10
    uninterrupted = tmp_path / "other"
    run(asked(uninterrupted), Runner(), Timer())
    assert (uninterrupted / "accuracy.csv").read_text() == (tmp_path / "accuracy.csv").read_text()


def test_an_interrupted_timing_run_is_measured_again_whole(tmp_path):
    assert run(asked(tmp_path), Runner(), Timer(error=KeyboardInterrupt()))[0] == 130
    runner, timer = Runner(), Timer()
    assert run(asked(tmp_path), runner, timer)[0] == 0
    assert runner.ran == []
    assert len(timer.calls[0]) == 5


def test_a_torn_record_is_measured_again_and_named(tmp_path):
    run(asked(tmp_path), Runner())
    torn = next(tmp_path.glob("accuracy-fastv@64-count-*"))
    torn.write_bytes(torn.read_bytes()[:-9])
    runner = Runner()
    _, said = run(asked(tmp_path), runner)
    assert runner.ran == [("fastv@64", "count")]
    assert f"skipping {torn}: it is torn" in said


# failures


def test_a_failing_cell_stops_no_other_and_is_never_reused(tmp_path, capsys):
    broken = ("vitcop@192", "digits")
    status, said = run(asked(tmp_path), Runner(fail=[broken]), Timer())
    assert status == 1
    assert "vitcop@192 digits: FAILED: RuntimeError: no memory left" in said
    assert "FAILED in digits: RuntimeError: no memory left" in capsys.readouterr().out
    assert len(list(tmp_path.glob("accuracy-*.json.gz"))) == 10
    runner = Runner()
    assert run(asked(tmp_path), runner, Timer())[0] == 0
    assert runner.ran == [broken]


def test_a_cell_that_fails_in_timing_is_shown_and_measured_again(tmp_path, capsys):
    assert run(asked(tmp_path), None, Timer(fail=["fastv@64"]))[0] == 1
    assert "FAILED: RuntimeError: slow" in capsys.readouterr().out
    timer = Timer()
    assert run(asked(tmp_path), None, timer)[0] == 0
    assert len(timer.calls) == 1


def test_a_timing_run_that_breaks_off_fails_all_its_cells(tmp_path, capsys):
    status, said = run(asked(tmp_path), Runner(), Timer(error=RuntimeError("no clock")))
    assert status == 1
    assert "FAILED: RuntimeError: no clock" in said
    assert capsys.readouterr().out.count("FAILED: RuntimeError: no clock") == 5


def test_a_broken_promise_is_a_failure(tmp_path):
    class Liar(Runner):
        def run(self, cell, task, on_item):
            made = super().run(cell, task, on_item)
            made["ledger"][0]["entering"] = [576] * 4
            return made

    assert run(asked(tmp_path), Liar())[0] == 1


def test_bad_input_found_late_ends_the_run(tmp_path):
    class Fussy(Runner):
        def run(self, cell, task, on_item):
            raise BadInput("task 'count' has no metric")

    with pytest.raises(BadInput, match="has no metric"):
        run(asked(tmp_path), Fussy())


def test_a_full_disk_is_one_sentence_and_keeps_what_was_written(tmp_path, monkeypatch):
    written = records.write
    left = iter(range(3))

    def write(directory, record):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return written(directory, record)

    monkeypatch.setattr(records, "write", write)
    with pytest.raises(BadInput, match="No space left on device; the 3 records") as caught:
        run(asked(tmp_path), Runner())
    assert str(tmp_path) in str(caught.value)
    monkeypatch.undo()
    runner = Runner()
    assert "reused 3 of 10" in run(asked(tmp_path), runner)[1]


# budgets that cannot be met


def test_infeasible_cells_are_printed_and_not_run(tmp_path, capsys):
    request = asked(tmp_path, budgets=(20,))
    cell = Cell(MethodSpec("fastv"), 20)
    runner, timer = Runner(), Timer()
    status, said = run(request, runner, timer, infeasible={cell: (37, 576)})
    assert status == 0
    assert {cell for cell, _ in runner.ran} == {"unpruned", "vitcop@20"}
    assert timer.calls == [["unpruned", "vitcop@20"]]
    assert "[4/4]" in said
    assert capsys.readouterr().out.count("infeasible (37–576)") == 2
    assert run(request, runner, timer, infeasible={cell: (37, 576)})[0] == 0
    assert len(runner.ran) == 4


def llava_sizes():
    from methods.interface import Segment, Sizes

    return Sizes(32, (Segment(24, 24),))


def test_which_cells_are_infeasible_and_what_would_be_feasible(tmp_path):
    request = asked(tmp_path, budgets=(576, 20), controls=True)
    found = infeasible_cells(request, llava_sizes())
    assert found == {Cell(MethodSpec("fastv"), 20): (37, 576)}


def test_a_budget_that_no_requested_method_meets_is_refused(tmp_path):
    request = asked(tmp_path, methods=parse_methods("fastv"), budgets=(64, 20), controls=True)
    with pytest.raises(BadInput, match=r"20 is infeasible for every requested method; .*37 to 576"):
        infeasible_cells(request, llava_sizes())


def test_a_budget_above_the_images_tokens_is_refused(tmp_path):
    request = asked(tmp_path, budgets=(577, 64))
    with pytest.raises(BadInput, match="budget 577 is above the image's 576 visual tokens"):
        infeasible_cells(request, llava_sizes())


def test_method_lists():
    from methods.registry import methods

    every = {spec.name for spec in parse_methods("all")}
    assert every == set(methods()) - {"unpruned"}
    twice = parse_methods("fastv,fastv:schedule=matched,unpruned,fastv")
    assert [spec.text for spec in twice] == ["fastv"]
    assert [s.text for s in parse_methods("all,fastv:layer=3")][-1] == "fastv:layer=3"


def test_budget_lists():
    assert parse_budgets("64, 192,64") == (192, 64)


# progress


def test_plain_progress_is_a_line_a_run_with_the_time_left(tmp_path):
    _, said = run(asked(tmp_path, methods=(), budgets=(64,)), Runner(), Timer())
    lines = said.splitlines()
    assert lines[0].startswith("[1/2] unpruned count: 75.0 % of 4 questions in 0 s, about")
    assert lines[1].startswith("[2/2] unpruned digits: 75.0 %")
    assert "left" not in lines[1]
    assert lines[2].startswith("[1/1] efficiency: 3 rounds over 1 cells")
