"""What a leaderboard refuses, with one sentence and exit status 2, beside sets that it ranks."""

from __future__ import annotations

import pytest
from altered_records import one_more_kv_row
from record_sets import NEW, OLD, alike, made, with_identity
from synthetic_records import accuracy, efficiency, without_result

from harness.cli.app import BAD_INPUT, main


def test_the_sets_are_ranked_as_they_are(tmp_path):
    made(tmp_path, old=[*OLD, efficiency()], new=NEW)
    sets = [str(tmp_path / name) for name in ("old", "new")]
    assert main(["leaderboard", *sets, "-o", str(tmp_path / "index.html")]) == 0


def refused(capsys, tmp_path, *directories):
    output = tmp_path / "index.html"
    assert main(["leaderboard", *map(str, directories), "-o", str(output)]) == BAD_INPUT
    assert not output.exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_broken_promise_is_refused(tmp_path, capsys):
    broken = accuracy("vitcop", 64, scores=[1.0] * 60)
    one_more_kv_row(broken)
    made(tmp_path, old=OLD, new=[NEW[0], with_identity(broken, code_digest="new", batch_size=8)])
    said = refused(capsys, tmp_path, tmp_path / "old", tmp_path / "new")
    assert f"{tmp_path / 'new'}/accuracy-vitcop@64-count-" in said
    assert "vitcop@64 broke its promise: layer 3 caches 75 rows" in said


def test_a_broken_promise_of_a_timing_is_refused(tmp_path, capsys):
    run = efficiency()
    one_more_kv_row(run["cells"][1])
    made(tmp_path, old=[*OLD, run])
    assert "fastv@64 broke its promise" in refused(capsys, tmp_path, tmp_path / "old")


@pytest.mark.parametrize(
    ("key", "what"),
    [("model_digest", "the model's digest"), ("task_version", "the version of count")],
)
def test_another_model_or_task_of_the_same_name_is_refused(tmp_path, capsys, key, what):
    made(tmp_path, old=OLD, new=alike("vitcop", [1.0] * 60, **{key: "other"}))
    said = refused(capsys, tmp_path, tmp_path / "old", tmp_path / "new")
    assert f"of tiny, {what} is " in said
    assert said.index(f"{tmp_path / 'old'}/") < said.index(f"{tmp_path / 'new'}/")


@pytest.mark.parametrize(
    "new",
    [
        NEW[1:],
        [without_result("failed", method="unpruned", budget=None, reason="no memory"), OLD[1]],
    ],
)
def test_a_set_without_unpruned_is_refused(tmp_path, capsys, new):
    made(tmp_path, old=OLD, new=new)
    said = refused(capsys, tmp_path, tmp_path / "old", tmp_path / "new")
    assert f"{tmp_path / 'new'} has no finished unpruned run of tiny" in said


def test_a_set_without_answers_is_refused(tmp_path, capsys):
    made(tmp_path, old=OLD, new=[efficiency()])
    said = refused(capsys, tmp_path, tmp_path / "old", tmp_path / "new")
    assert f"{tmp_path / 'new'} holds no answers" in said
