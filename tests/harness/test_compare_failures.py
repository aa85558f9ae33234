"""What fails or is interrupted in a comparison costs nothing that was measured."""

from __future__ import annotations

import pytest
from stand_ins import Runner, Timer, asked, run

from harness import record as records
from harness.cells import Cell, MethodSpec
from harness.errors import BadInput


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
