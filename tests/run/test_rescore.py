"""Answers outlive a scoring that fails: the same command, or `harness rescore`, scores them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_task import FakeTask
from from_bodies import bodies_in
from stand_ins import TASKS, Runner, asked, run

from harness.accuracy.rehearsal import INVENTED, rehearse
from harness.cli.app import main
from harness.cli.words import parse_methods
from harness.errors import BadInput

TASK = "embedded_count"


def statuses(directory: Path) -> dict[tuple[str, str], str]:
    found = bodies_in(directory)
    return {(r["cell"], r["identity"]["task"]): r["status"] for r in found}


def test_the_same_command_scores_without_asking_again(tmp_path):
    request = asked(tmp_path, methods=parse_methods("fastv"), budgets=(64,), efficiency=False)
    broken = Runner(unscored=[("fastv@64", "digits")])
    status, said = run(request, broken)
    assert status == 1
    assert "FAILED: scoring failed: no judge" in said
    assert statuses(request.output)["fastv@64", "digits"] == "failed"
    mended = Runner()
    status, said = run(request, mended)
    assert (status, mended.repeated) == (0, [("fastv@64", "digits")])
    assert mended.ran == [("fastv@64", "digits")]
    assert "fastv@64 digits: answered before, scored again" in said
    assert set(statuses(request.output).values()) == {"ok"}


def test_answers_are_not_replaced_by_a_run_that_stops_before_them(tmp_path):
    request = asked(tmp_path, methods=parse_methods("fastv"), budgets=(64,), efficiency=False)
    run(request, Runner(unscored=[("unpruned", TASKS[0]), ("fastv@64", "digits")]))
    run(request, Runner(unscored=[("unpruned", TASKS[0])]))
    kept = {(r["cell"], r["identity"]["task"]): r for r in bodies_in(request.output)}
    assert kept["unpruned", TASKS[0]]["samples"]


def test_only_what_will_be_run_is_rehearsed(tmp_path):
    request = asked(tmp_path, methods=parse_methods("fastv"), budgets=(64,), efficiency=False)
    first, again = Runner(), Runner()
    run(request, first)
    run(request, again)
    assert (first.rehearsed, again.rehearsed) == (list(TASKS), [])


@pytest.mark.slow
def test_rescore_gives_what_a_sound_run_gives(tmp_path, monkeypatch, capsys):
    options = ["--model", "embedded", "--methods", "fastv", "--budgets", "64", "--tasks", TASK]
    options += ["--limit", "3", "--no-efficiency", "--device", "cpu"]
    assert main(["compare", *options, "-o", str(tmp_path / "sound")]) == 0

    def broken(*_):
        raise KeyError("planted")

    with monkeypatch.context() as patch:
        patch.setattr("harness.accuracy.lmms.evaluation.scored", broken)
        assert main(["compare", *options, "-o", str(tmp_path / "broken")]) == 1
    assert main(["rescore", str(tmp_path / "broken")]) == 0
    assert "1 of 1 records of answers were scored anew" in capsys.readouterr().err
    sound, mended = (bodies_in(tmp_path / name) for name in ("sound", "broken"))
    upper = next(record for record in sound if record["cell"] == "unpruned")
    (again,) = [record for record in mended if record["cell"] == "unpruned"]
    assert again["samples"] == upper["samples"]
    assert again["metrics"] == upper["metrics"]


def test_a_directory_without_answers_is_one_sentence(tmp_path, capsys):
    assert main(["rescore", str(tmp_path)]) == 2
    assert "no record in" in capsys.readouterr().err
    assert main(["rescore", str(tmp_path / "none")]) == 2


# --- the rehearsal -----------------------------------------------------------------------------


class Rehearsed(FakeTask):
    """A task over three documents."""

    def __init__(self, process, aggregation=len) -> None:
        super().__init__(acc=aggregation)
        self.process_results = process
        self.eval_docs_no_media = ["one", "two", "three"]


def test_a_task_that_can_be_scored_passes_its_rehearsal():
    seen = []
    rehearse("t", Rehearsed(lambda doc, said: seen.append((doc, *said)) or {"acc": 1.0}), range(3))
    assert seen == [*zip(("one", "two", "three"), INVENTED, strict=True)]


def test_what_cannot_be_scored_is_one_sentence_before_any_question():
    def no_java(items):
        raise FileNotFoundError("java")

    with pytest.raises(BadInput, match="task 't' cannot be scored here: FileNotFoundError: java"):
        rehearse("t", Rehearsed(lambda doc, said: {"acc": 1.0}, no_java), range(3))
    with pytest.raises(BadInput, match="task 't' cannot be scored here: KeyError: 'answer'"):
        rehearse("t", Rehearsed(lambda doc, said: {}["answer"]), range(3))


def test_a_judge_that_does_not_answer_is_not_waited_for(monkeypatch):
    from threading import Event

    monkeypatch.setattr("harness.accuracy.rehearsal.SECONDS", 0.05)
    never = Event()
    with pytest.raises(BadInput, match=r"took over .* a judge .* mmbench_en_dev_static needs none"):
        rehearse("mmbench_en_dev", Rehearsed(lambda doc, said: never.wait(5)), range(3))
    never.set()
