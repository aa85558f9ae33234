"""The words of a command line become one request; each option is a field of it, or makes one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields

import pytest
import typer

from harness.cli.app import app, main
from harness.models.protocols import LlavaProtocol
from harness.records.suites import SUITES
from harness.run.request import Match, Per, Request


@pytest.fixture
def requested(monkeypatch, tmp_path):
    """The request that a command makes, of which nothing is measured."""
    made: list[Request] = []

    @contextmanager
    def compared(request, told):
        made.append(request)
        yield []

    monkeypatch.setattr("harness.run.compare.compared", compared)

    def run(*arguments: str) -> Request:
        assert main([*arguments, "--output", str(tmp_path)]) == 0
        return made.pop()

    return run


def test_every_option_of_compare_arrives(requested, tmp_path):
    request = requested(
        *("compare", "--methods", "fastv:layer=3,unpruned", "--budgets", "64,192", "--seed", "5"),
        *("--match", "flops", "--model", "tiny", "--tasks", "embedded_count,pope", "--limit", "7"),
        *("--batch-size", "4", "--device", "cpu", "--dtype", "bfloat16", "--attention", "eager"),
        *("--protocol", "llava", "--controls", "--repeats", "3", "--fresh"),
        *("--budget-per", "image", "--frames", "16"),
    )
    assert [spec.text for spec in request.methods] == ["fastv:layer=3"]
    assert request == Request(
        methods=request.methods,
        budgets=(192, 64),
        match=Match.FLOPS,
        budget_per=Per.IMAGE,
        frames=16,
        model="tiny",
        tasks=("embedded_count", "pope"),
        limit=7,
        batch_sizes=(4,),
        device="cpu",
        dtype="bfloat16",
        attention="eager",
        protocol=LlavaProtocol(),
        controls=True,
        repeats=3,
        seed=5,
        output=tmp_path,
        fresh=True,
    )


def test_a_draw_of_questions_arrives(requested):
    request = requested("compare", "--samples-per-task", "200", "--sample", "3")
    assert (request.limit, request.samples_per_task, request.sample) == (None, 200, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--limit", "5", "--samples-per-task", "5"),
            "--limit asks the first questions, --samples-per-task draws; give one of them",
        ),
        (("--sample", "5"), "--sample has no effect without --samples-per-task"),
        (
            ("--samples-per-task", "5", "--no-accuracy"),
            "--samples-per-task has no effect with --no-accuracy",
        ),
    ],
)
def test_a_draw_that_says_nothing_or_two_things_is_refused(options, sentence, tmp_path, capsys):
    assert main(["compare", "--model", "tiny", *options, "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines() == [f"harness: {sentence}"]


def test_every_option_of_efficiency_arrives(requested, tmp_path):
    request = requested(
        *("efficiency", "--methods", "fastv", "--budgets", "64", "--model", "random:tiny"),
        *("--batch-size", "8,1", "--prompt-tokens", "9", "--new-tokens", "3", "--images", "2"),
        *("--repeats", "4", "--minutes", "0.5", "--find-max-batch", "2.5", "--allow-busy"),
    )
    assert request == Request(
        methods=request.methods,
        budgets=(64,),
        model="random:tiny",
        batch_sizes=(8, 1),
        prompt_tokens=9,
        new_tokens=3,
        images=2,
        repeats=4,
        most_minutes=0.5,
        memory_gib=2.5,
        allow_busy=True,
        accuracy=False,
        output=tmp_path,
    )


def test_frames_of_a_timed_video_are_a_list(requested):
    asked = ("efficiency", "--model", "random:tiny", "--methods", "fastv", "--budgets", "64")
    assert requested(*asked, "--frames", "8,32").timed_frames == (8, 32)
    assert requested(*asked).timed_frames is None
    assert requested("compare", "--frames", "16").timed_frames is None


def test_where_requests_stop_growing_is_looked_for_if_it_is_asked_for(requested):
    asked = ("efficiency", "--model", "random:tiny", "--methods", "fastv", "--budgets", "64")
    assert requested(*asked, "--saturate", "4.5").saturate_gib == 4.5
    assert requested(*asked).saturate_gib is None


def test_a_part_that_is_not_wanted_is_left_out(requested):
    assert not requested("compare", "--no-accuracy").accuracy
    assert not requested("compare", "--no-efficiency").efficiency


def test_a_suite_stands_for_its_tasks(requested):
    whole = requested("compare", "--suite", "vitcop-image")
    assert whole.tasks == SUITES["vitcop-image"].tasks
    assert whole.samples_per_task is None
    quick = requested("compare", "--suite", "quick")
    assert (quick.tasks, quick.samples_per_task, quick.sample) == (SUITES["quick"].tasks, 200, 0)
    other = requested("compare", "--suite", "quick", "--samples-per-task", "50", "--sample", "3")
    assert (other.samples_per_task, other.sample) == (50, 3)


def test_no_option_is_lost_on_the_way():
    """An option under another name than its field would be dropped in silence."""
    known = {field.name for field in fields(Request)} | {"suite", "batch_size", "chat_template"}
    commands = typer.main.get_command(app).commands
    for name in ("compare", "efficiency"):
        options = {option.name for option in commands[name].params} - {"help"}
        assert options <= known


def test_an_address_of_an_object_store_is_refused(capsys):
    assert main(["compare", "--output", "s3://bucket/records"]) == 2
    assert "--output s3://bucket/records is an address; allowed: a directory" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("option", [["--workers", "2"], ["--ray", "auto"]])
def test_workers_are_of_answers(option, capsys):
    assert main(["compare", "--no-accuracy", *option]) == 2
    assert f"{option[0]} has no effect with --no-accuracy" in capsys.readouterr().err
