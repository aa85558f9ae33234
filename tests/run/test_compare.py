"""A comparison with stand-ins for what measures: order, records, reuse, progress."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stand_ins import TASKS, Runner, Timer, asked, run
from synthetic_records import COMMON, PROVENANCE

from harness.cli.words import parse_methods
from harness.records import file as records
from harness.run.request import cells_of


def test_task_by_task_unpruned_runs_first_and_once_then_budget_by_budget(tmp_path):
    runner, timer = Runner(), Timer()
    assert run(asked(tmp_path), runner, timer)[0] == 0
    order = ["unpruned", "vitcop@192", "fastv@192", "vitcop@64", "fastv@64"]
    assert runner.ran == [(cell, task) for task in TASKS for cell in order]
    assert timer.calls == [order]
    assert len(list(tmp_path.glob("accuracy-*.json.gz"))) == 10
    assert len(list(tmp_path.glob("efficiency-*.json.gz"))) == 1


def test_records_hold_identity_method_and_origin(tmp_path):
    run(asked(tmp_path, methods=(), budgets=(64,), limit=7), Runner())
    (path, _) = sorted(tmp_path.glob("*.json.gz"))
    record = records.read(path).body
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


def test_plain_progress_is_a_line_a_run_with_the_time_left(tmp_path):
    _, said = run(asked(tmp_path, methods=(), budgets=(64,)), Runner(), Timer())
    lines = said.splitlines()
    assert lines[0].startswith("[1/2] unpruned count: 75.0 % of 4 questions in 0 s, about")
    assert lines[1].startswith("[2/2] unpruned digits: 75.0 %")
    assert "left" not in lines[1]
    assert lines[2] == "[1/1] efficiency: rounds"
    assert lines[3].startswith("[1/1] efficiency: 3 rounds over 1 cells")
