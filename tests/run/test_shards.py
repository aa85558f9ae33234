"""Answers kept shard by shard: what is done is done, and records are those of one piece of work."""

from __future__ import annotations

from pathlib import Path

import pytest
from from_bodies import bodies_in
from stand_ins import TASKS, Runner, asked, run

from harness.accuracy.shards import dealt
from harness.cli.app import main
from harness.records.shards import UNFINISHED, unfinished

CELLS = ("unpruned", "vitcop@192", "fastv@192", "vitcop@64", "fastv@64")
FIRST, SECOND = (0, 1), (2, 3)


class Halves(Runner):
    """Answers two questions at a time."""

    def __init__(self, **changes) -> None:
        super().__init__(**changes)
        self.shard_questions = 2


def only_answers(directory: Path, **changes):
    return asked(directory, efficiency=False, **changes)


def without_origin(directory: Path):
    return [{k: v for k, v in b.items() if k != "provenance"} for b in bodies_in(directory)]


def test_all_cells_answer_a_shard_before_any_begins_the_next(tmp_path):
    runner = Halves()
    assert run(only_answers(tmp_path), runner)[0] == 0
    assert runner.asked == [
        (cell, task, *shard) for shard in (FIRST, SECOND) for task in TASKS for cell in CELLS
    ]


def test_records_are_those_of_a_single_shard_and_nothing_is_left_over(tmp_path):
    run(only_answers(tmp_path / "whole"), Runner())
    run(only_answers(tmp_path / "halves"), Halves())
    assert without_origin(tmp_path / "halves") == without_origin(tmp_path / "whole")
    names = [{p.name for p in (tmp_path / name).iterdir()} for name in ("whole", "halves")]
    assert names[0] == names[1]


def test_an_interruption_loses_a_shard_and_the_next_run_goes_on_from_it(tmp_path, capsys):
    stop = ("fastv@64", "digits", *SECOND)
    first = Halves(stop=stop)
    assert run(only_answers(tmp_path), first)[0] == 130
    kept = [str(one) for one in unfinished(tmp_path, pytest.fail)]
    assert kept == ["fastv@64 · digits: 2 of 4 questions answered"]
    second = Halves()
    assert run(only_answers(tmp_path), second)[0] == 0
    assert second.asked == [stop]
    assert not (tmp_path / UNFINISHED).exists()


def test_a_killed_run_shows_how_far_every_cell_is(tmp_path):
    run(only_answers(tmp_path), Halves(stop=("unpruned", TASKS[0], *SECOND)))
    found = list(unfinished(tmp_path, pytest.fail))
    assert {(one.cell, one.task) for one in found} == {(c, t) for c in CELLS for t in TASKS}
    assert {(one.answered, one.questions) for one in found} == {(2, 4)}


def test_the_table_of_a_killed_run_says_how_far_it_is(tmp_path, capsys):
    run(only_answers(tmp_path), Halves(stop=("fastv@64", "digits", *SECOND)))
    capsys.readouterr()
    assert main(["table", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert told.err == "harness: fastv@64 · digits: 2 of 4 questions answered\n"
    assert "ViTCoP" in told.out


def test_fresh_answers_finished_shards_again(tmp_path):
    stop = ("fastv@64", "digits", *SECOND)
    run(only_answers(tmp_path), Halves(stop=stop))
    again = Halves()
    assert run(only_answers(tmp_path, fresh=True), again)[0] == 0
    assert len(again.asked) == 2 * len(CELLS) * len(TASKS)


def test_a_torn_shard_is_named_and_answered_again(tmp_path):
    stop = ("fastv@64", "digits", *SECOND)
    run(only_answers(tmp_path), Halves(stop=stop))
    (torn,) = (tmp_path / UNFINISHED).glob("*.json.gz")
    torn.write_bytes(torn.read_bytes()[:-9])
    again = Halves()
    status, said = run(only_answers(tmp_path), again)
    assert status == 0
    assert f"skipping {torn}: it is torn" in said
    assert again.asked == [("fastv@64", "digits", *FIRST), stop]


def test_a_shard_that_fails_fails_its_cell_and_keeps_the_others(tmp_path):
    broken = ("vitcop@64", "count", *SECOND)
    status, said = run(only_answers(tmp_path), Halves(fail=[broken]))
    assert status == 1
    assert "vitcop@64 count: FAILED: RuntimeError: no answer" in said
    again = Halves()
    assert run(only_answers(tmp_path), again)[0] == 0
    assert again.asked == [broken]
    assert not (tmp_path / UNFINISHED).exists()


def test_progress_tells_of_parts_with_the_time_left(tmp_path):
    _, said = run(only_answers(tmp_path, methods=(), budgets=(64,)), Halves())
    lines = said.splitlines()
    assert lines[0].startswith("[1/2] unpruned count: 2 of 4 questions answered, ")
    assert " a second, about " in lines[0]
    assert lines[2].startswith("[1/2] unpruned count: 75.0 % of 4 questions in 0 s, about")
    assert lines[3].startswith("[2/2] unpruned digits: 75.0 %")
    assert "left" not in lines[3]


# --- dealing -----------------------------------------------------------------------------------


def test_documents_about_one_image_stay_together():
    images = [*"aabbbac", *"ddddd"]
    assert dealt(range(12), images, 4) == [(0, 1, 5), (2, 3, 4, 6), (7, 8, 9, 10), (11,)]
    assert dealt([3, 8, 9], "aba", 2) == [(3, 9), (8,)]
    assert dealt(range(3), "abc", 512) == [(0, 1, 2)]
