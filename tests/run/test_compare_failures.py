"""What fails or is interrupted in a comparison costs nothing that was measured."""

from __future__ import annotations

from copy import deepcopy
from math import inf, nan

import pytest
from from_bodies import bodies_in
from stand_ins import TASKS, Runner, Timer, asked, run

from harness.errors import BadInput
from harness.records import file as records
from harness.records.cell import Cell, MethodSpec
from methods.interface import MechanismError


def test_an_interruption_keeps_what_is_finished_and_the_next_run_goes_on(tmp_path, capsys):
    stop = ("fastv@192", "digits")
    first = Runner(stop=stop)
    assert run(asked(tmp_path), first, Timer())[0] == 130
    told = capsys.readouterr()
    assert told.out == ""
    assert f"records of all finished cells are kept in {tmp_path}, 7 of them" in told.err
    assert "the same command goes on from there" in told.err
    second, timer = Runner(), Timer()
    status, said = run(asked(tmp_path), second, timer)
    assert status == 0
    assert "reused 7 of 10" in said
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


def test_a_broken_promise_is_a_failure_and_its_score_is_told_nowhere(tmp_path):
    class Liar(Runner):
        def run(self, cell, task, on_item, earlier=None):
            made = super().run(cell, task, on_item)
            if cell.text == "fastv@64":
                made["ledger"][0]["entering"] = [576] * 4
            return made

    status, said = run(asked(tmp_path), Liar())
    assert status == 1
    lines = [line for line in said.splitlines() if "fastv@64 " in line]
    assert len(lines) == len(TASKS)
    for line in lines:
        assert "FAILED: 576 visual tokens entered layer 0" in line
        assert "%" not in line
    assert said.count("75.0 % of 4 questions") == 10 - len(TASKS)


class Telling(Runner):
    """Fails in one cell on the first task, with an error of its own."""

    def __init__(self, cell, error):
        super().__init__()
        self.cell, self.error = cell, error

    def run(self, cell, task, on_item, earlier=None):
        made = super().run(cell, task, on_item)
        if (cell.text, task) == (self.cell, TASKS[0]):
            raise self.error
        return made


@pytest.mark.parametrize(
    ("cell", "error", "why"),
    [
        (
            "unpruned",
            RuntimeError("no\nnumbers"),
            "unpruned failed on count: RuntimeError: no numb",
        ),
        ("vitcop@192", MechanismError("layer 0 was not seen"), "layer 0 was not seen"),
    ],
)
def test_nothing_is_run_where_nothing_could_be_right(tmp_path, cell, error, why):
    runner, timer = Telling(cell, error), Timer()
    status, said = run(asked(tmp_path), runner, timer)
    assert status == 1
    assert said.count(f"the comparison stops, no other cell is run: {why}") == 1
    assert runner.ran[-1] == (cell, TASKS[0])
    assert timer.calls == []
    kept = {(r["kind"], r.get("status")) for r in bodies_in(tmp_path, pytest.fail)}
    assert kept == {("accuracy", s) for s in {"failed", *(["ok"] * (cell != "unpruned"))}} | {
        ("efficiency", None)
    }
    assert len(list(tmp_path.glob("accuracy-*.json.gz"))) == 10
    later = Runner()
    assert run(asked(tmp_path), later, timer)[0] == 0
    assert later.ran == [run for run in every_cell() if run not in runner.ran[:-1]]


def every_cell():
    cells = ("unpruned", "vitcop@192", "fastv@192", "vitcop@64", "fastv@64")
    return [(cell, task) for task in TASKS for cell in cells]


def test_cells_that_were_not_run_say_why(tmp_path, capsys):
    run(asked(tmp_path), Telling("unpruned", RuntimeError("no numbers")), Timer())
    rows = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert sum("not run, because unpruned failed on count" in row for row in rows) >= 4


def test_a_method_that_fails_in_every_cell_stops_no_other(tmp_path):
    broken = [("vitcop@192", task) for task in TASKS]
    runner = Runner(fail=broken)
    assert run(asked(tmp_path), runner, Timer())[0] == 1
    assert runner.ran == every_cell()


# numbers that are none


def spoil_score(made):
    made["samples"][2]["score"] = nan


def spoil_first_token(made):
    made["samples"][1]["first_token"]["logprobs"][0] = -inf


def spoil_seconds(made):
    made["wall_seconds"] = nan


def spoil_target(made):
    made["samples"][0]["target"] = {"a set"}


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (spoil_score, "samples[2].score is nan"),
        (spoil_first_token, "samples[1].first_token.logprobs[0] is -inf"),
        (spoil_seconds, "wall_seconds is nan"),
        (spoil_target, "set is not JSON serializable"),
    ],
)
def test_what_no_record_can_hold_fails_its_cell_only(tmp_path, capsys, spoil, place):
    class Spoiling(Runner):
        def run(self, cell, task, on_item, earlier=None):
            made = deepcopy(super().run(cell, task, on_item))
            if (cell.text, task) == ("vitcop@64", "count"):
                spoil(made)
            return made

    runner = Spoiling()
    status, said = run(asked(tmp_path), runner, Timer())
    assert status == 1
    assert runner.ran == every_cell()
    assert "vitcop@64 count: FAILED: no record can hold what was measured" in said
    assert place in said
    found = bodies_in(tmp_path, pytest.fail)
    assert [r["cell"] for r in found if r.get("status") == "failed"] == ["vitcop@64"]
    assert "FAILED in count: no record can hold" in capsys.readouterr().out


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_time_that_is_no_number_fails_its_cell(tmp_path, everywhere):
    class Spoiling(Timer):
        def timed(self, cells, on_step):
            made = super().timed(cells, on_step)
            if everywhere:
                return {**made, "stock_seconds": [nan]}
            made["cells"][1]["raw_seconds"] = {"prefill": [0.1, nan]}
            return made

    status, said = run(asked(tmp_path), None, Spoiling())
    assert status == 1
    place = "stock_seconds[0]" if everywhere else "raw_seconds.prefill[1]"
    assert f"FAILED: no record can hold what was measured: {place} is nan" in said
    (record,) = bodies_in(tmp_path, pytest.fail)
    failed = [row["cell"] for row in record["cells"] if row["status"] == "failed"]
    assert len(failed) == (5 if everywhere else 1)


def test_bad_input_found_late_ends_the_run(tmp_path):
    class Fussy(Runner):
        def run(self, cell, task, on_item, earlier=None):
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
