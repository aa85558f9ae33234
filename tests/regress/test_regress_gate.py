"""The gate as a command: exit status, what it writes, baselines, benchmarks."""

from __future__ import annotations

import gzip
import json
import os
from typing import Any

import numpy as np
import pytest
from altered_records import (
    altered,
    another_answer,
    another_selection,
    answered,
    one_more_kv_row,
    worse,
)
from from_bodies import record_findings, requests_of
from synthetic_records import (
    PROVENANCE,
    accuracy,
    efficiency,
)

from harness.cli.app import main
from harness.errors import BadInput
from harness.records import file as records
from harness.regress.baseline import write_baseline
from harness.regress.benchmarks import BLOCKS, benchmark_findings, read_benchmarks, write_benchmarks
from harness.regress.findings import Verdict
from harness.regress.records import Limits
from harness.regress.sources import read_directory
from harness.regress.table import as_json, summary, verdict_table
from harness.tables.table import markdown


@pytest.fixture
def kept(tmp_path):
    """Writes records into a directory of that name."""

    def write(name: str, found: list[dict[str, Any]]):
        for record in found:
            records.write(tmp_path / name, record)
        return tmp_path / name

    return write


def gate(capsys, *arguments: object) -> tuple[int, str, str]:
    status = main(["regress", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_exit_status_0_1_and_3(kept, capsys):
    before = kept("before", answered())
    assert gate(capsys, "--against", before, kept("same", answered()))[0] == 0
    status, out, _ = gate(capsys, "--against", before, kept("worse", altered(another_answer)))
    assert status == 1
    assert "1 regression: fastv@64 answers" in out
    other = [{**r, "identity": {**r["identity"], "model_digest": "ffff"}} for r in answered()]
    status, out, err = gate(capsys, "--against", before, kept("other", other))
    assert (status, out) == (3, "")
    assert err.startswith("harness: the records cannot be compared: the model_digest of ")
    assert len(err.splitlines()) == 1
    lone = kept("lone", [accuracy("random", 64, "other")])
    status, out, _ = gate(capsys, "--against", before, lone)
    assert status == 3
    assert "only in the baseline" in out


def test_bad_input_is_one_sentence_and_status_2(kept, capsys, tmp_path):
    before = kept("before", answered())
    (tmp_path / "empty").mkdir()
    torn = kept("torn", answered())
    path = next(torn.glob("accuracy-fastv*"))
    path.write_bytes(path.read_bytes()[:-40])
    old = kept("old", [{**r, "schema": 0} for r in answered()])
    for arguments, sentence in (
        (["--against", before, tmp_path / "none"], "there is no directory"),
        (["--against", before, tmp_path / "empty"], "no records in"),
        (["--against", before, torn], "torn"),
        (["--against", old, before], f"`harness regress --against {old} CURRENT --update`"),
        (["--against", before, before, "--max-slowdown", "fast"], "percentage from 0 up"),
        (["--against", before, before, "--tolerance", "-1"], "points from 0 up"),
        (["--against", before, before, "--tolerance", "inf"], "points from 0 up"),
        (["--against", before, before, "--json", tmp_path / "no" / "a"], "there is no directory"),
        (["--against", tmp_path / "none.json", tmp_path / "none.json"], "there is no file"),
    ):
        status, out, err = gate(capsys, *arguments)
        assert (status, out) == (2, ""), arguments
        assert sentence in err
        assert len(err.splitlines()) == 1


# what is written


def test_json_and_markdown_hold_every_finding(kept, capsys, tmp_path):
    before, after = kept("before", answered()), kept("after", altered(another_selection))
    files = ["--json", tmp_path / "gate.json", "--markdown", tmp_path / "gate.md"]
    assert gate(capsys, "--against", before, after, *files)[0] == 1
    content = json.loads((tmp_path / "gate.json").read_text())
    assert content["exit_status"] == 1
    assert content["limits"] == {"max_slowdown": 0.05, "tolerance": None}
    (found,) = [f for f in content["findings"] if f["verdict"] == "worse"]
    assert (found["cell"], found["quantity"], found["p"]) == ("fastv@64", "selections", None)
    text = (tmp_path / "gate.md").read_text()
    assert text.startswith("**Regression gate: 1 regression**")
    rows = [line for line in text.splitlines() if line.startswith("| fastv@64")]
    assert {line.count(" | ") for line in rows} == {6}
    assert any("| worse |" in line for line in rows)


def test_exact_quantities_that_say_the_same_share_a_row():
    findings = record_findings(answered(), altered(one_more_kv_row), Limits())
    rows = verdict_table(findings, []).rows
    mine = {row[1][0] for row in rows if row[0] == ("fastv@64",)}
    assert mine == {"KV rows", "tokens, FLOPs, parameters, selections, answers", "accuracy"}
    assert summary(findings).startswith("1 regression: fastv@64 KV rows; ")
    assert json.loads(as_json(findings))["exit_status"] == 1
    assert "| 74.0 | 74.1 |" in markdown(verdict_table(findings, []))


# baselines


def test_a_baseline_is_small_and_compares_as_the_records_do(kept, tmp_path):
    many = answered([1.0, 0.0] * 30)
    for record in many:
        for sample in record["samples"]:
            sample["first_token"] = {"ids": list(range(32)), "logprobs": [-0.1234] * 32}
    whole = kept("whole", many)
    line = write_baseline(tmp_path / "base", read_directory(whole))
    assert "4 records" in line
    base = read_directory(tmp_path / "base")
    assert worse(base, many) == set()
    assert worse(base, altered(another_selection, many)) == {("fastv@64", "selections")}
    samples = base[-1].samples
    assert samples.first_tokens[0] == {}
    assert all(kept.kept is None for kept in samples.selections[0])
    # a baseline made of a baseline is the same
    write_baseline(tmp_path / "again", base)
    again = read_directory(tmp_path / "again")
    assert [record.body for record in again] == [record.body for record in base]


def test_update_replaces_the_baseline_and_says_what_changed(kept, capsys):
    before, after = kept("before", answered()), kept("after", altered(another_answer))
    status, out, err = gate(capsys, "--against", before, after, "--update")
    assert status == 0
    assert "1 regression: fastv@64 answers" in out
    assert "holds 4 records" in err
    assert gate(capsys, "--against", before, after)[0] == 0


def test_update_makes_a_first_baseline_and_replaces_one_that_cannot_be_compared(kept, capsys):
    after = kept("after", answered())
    assert gate(capsys, "--against", after.parent / "new", after, "--update")[0] == 0
    assert gate(capsys, "--against", after.parent / "new", after)[0] == 0
    old = kept("old", [{**accuracy(), "schema": 0}])
    status, _, err = gate(capsys, "--against", old, after, "--update")
    assert (status, "it is replaced" in err) == (0, True)
    other = {**accuracy(), "identity": {**accuracy()["identity"], "limit": 3}}
    status, _, err = gate(capsys, "--against", kept("other", [other]), after, "--update")
    assert (status, "the limit of fastv@64" in err) == (0, True)
    assert len(list((after.parent / "other").iterdir())) == 4


def test_a_dirty_tree_is_no_baseline_unless_asked_for(kept, capsys):
    before = kept("before", answered())
    after = kept("after", [{**r, "provenance": {**PROVENANCE, "dirty": True}} for r in answered()])
    status, _, err = gate(capsys, "--against", before, after, "--update")
    assert (status, "give --allow-dirty" in err) == (2, True)
    assert gate(capsys, "--against", before, after, "--update", "--allow-dirty")[0] == 0


def test_the_configuration_of_a_baseline_is_asked_again(tmp_path):
    seeds = [accuracy("random", 64, "count", seed=seed) for seed in range(5)]
    found = [*answered(), *seeds, accuracy("fastv:layer=3", 192, "count"), efficiency()]
    answers, times = requests_of(found, tmp_path)
    assert {spec.text for spec in answers.methods} == {"fastv", "random", "fastv:layer=3"}
    assert (answers.budgets, answers.tasks, answers.controls) == (
        (192, 64),
        ("count", "digits"),
        True,
    )
    assert (answers.accuracy, answers.efficiency, answers.fresh) == (True, False, True)
    assert (times.accuracy, times.efficiency, times.repeats) == (False, True, 3)
    assert times.budgets == (64,)
    assert (times.model, times.device, times.dtype) == ("tiny", "cpu", "float32")


def test_a_timed_run_is_asked_for_with_its_own_prompt(tmp_path):
    record = efficiency()
    own = {"prompt_tokens": 9, "new_tokens": 3, "images": 2, "most_minutes": 1.5}
    record["identity"] = {**record["identity"], **own}
    (request,) = requests_of([record], tmp_path)
    assert {name: getattr(request, name) for name in own} == own
    assert request.timed_frames is None


def test_a_timed_video_is_asked_for_again_and_compared_with_its_like(tmp_path, kept, capsys):
    shorter, longer = (
        {**efficiency(), "identity": {**efficiency()["identity"], "frames": n}} for n in (8, 32)
    )
    (request,) = requests_of([longer], tmp_path)
    assert request.timed_frames == (32,)
    before = kept("before", [longer])
    assert gate(capsys, "--against", before, kept("same", [longer]))[0] == 0
    status, _, said = gate(capsys, "--against", before, kept("other", [shorter]))
    assert status == 3
    assert "frames" in said


def test_a_method_of_the_users_own_file_needs_current_records(tmp_path):
    record = accuracy()
    record["identity"]["method_file"] = "abc"
    with pytest.raises(BadInput, match="give the directory of CURRENT records"):
        requests_of([record], tmp_path)


# benchmarks


def benchmarks(rng: np.random.Generator, slow: float = 1.0, cpu: str = "A", machine: float = 1.0):
    """What pytest-benchmark writes, cut down to what is read; `machine` slows all of it."""

    def timings(seconds: float, group: str, name: str) -> dict[str, Any]:
        data = (seconds * machine * np.exp(rng.normal(0, 0.05, 400))).tolist()
        return {"group": group, "name": name, "stats": {"data": data}}

    return {
        "machine_info": {"cpu": {"brand_raw": cpu}},
        "commit_info": {"dirty": False},
        "benchmarks": [
            timings(0.01, "reference", "test_reference"),
            timings(0.002 * slow, "selection", "test_select[vitcop]"),
            timings(0.003, "selection", "test_select[fastv]"),
        ],
    }


def test_benchmarks_are_compared_by_their_ratio_to_the_reference():
    rng = np.random.default_rng(0)
    before = benchmarks(rng)
    assert {f.verdict for f in benchmark_findings(before, benchmarks(rng, machine=3.0), 0.05)} == {
        "same"
    }
    found = benchmark_findings(before, benchmarks(rng, slow=2.0, machine=0.4), 0.05)
    assert [f.cell for f in found if f.verdict is Verdict.WORSE] == ["test_select[vitcop]"]
    left_out = benchmark_findings(before, benchmarks(rng, slow=2.0, cpu="B"), 0.05)
    assert {(f.verdict, f.why) for f in left_out} == {("not comparable", "cpu A → B")}


def test_a_baseline_of_benchmarks_is_small_and_reads_back(tmp_path, capsys):
    run = benchmarks(np.random.default_rng(0))
    current, base = tmp_path / "current.json", tmp_path / "base.json.gz"
    current.write_text(json.dumps(run))
    assert gate(capsys, "--against", base, current, "--update")[0] == 0
    assert len(read_benchmarks(base)["benchmarks"][0]["stats"]["data"]) == BLOCKS
    status, out, _ = gate(capsys, "--against", base, current)
    assert status == 0
    assert "test_select[vitcop]" in out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is torn or not what"),
        (b"[]", "is torn or not what"),
        (b'{"benchmarks": [{"name": "a", "group": "b", "stats": {}}]}', "is torn or not what"),
        (b'{"benchmarks": [{"name": "a", "group": "b", "stats": {"data": ["1"]}}]}', "is torn"),
        (b"[" * 10**5, "is torn or not what"),
        (b'{"benchmarks": []}', "one benchmark of the group 'reference'"),
    ],
)
def test_other_files_are_no_benchmarks(tmp_path, content, sentence):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        read_benchmarks(path)
    torn = tmp_path / "run.json.gz"
    torn.write_bytes(gzip.compress(content)[:-3])
    with pytest.raises(BadInput, match="is torn"):
        read_benchmarks(torn)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(BadInput, match="is no regular file"):
        read_benchmarks(tmp_path / "pipe.json")


def test_equal_benchmarks_give_equal_bytes(tmp_path):
    run = benchmarks(np.random.default_rng(0))
    for name in ("a.json.gz", "b.json.gz"):
        write_benchmarks(tmp_path / name, run)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
