"""The gate on records made of nothing: planted regressions, what it refuses, what it writes."""

from __future__ import annotations

import gzip
import json
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from synthetic_records import (
    COMMON,
    PROVENANCE,
    accuracy,
    efficiency,
    efficiency_cell,
    without_result,
)

from harness import record as records
from harness.cli import main
from harness.errors import BadInput
from harness.regress.baseline import requests_of, write_baseline
from harness.regress.benchmarks import BLOCKS, benchmark_findings, read_benchmarks, write_benchmarks
from harness.regress.findings import Verdict
from harness.regress.records import Limits, record_findings
from harness.regress.sources import IncomparableError, read_directory
from harness.regress.table import as_json, exit_status, summary, verdict_table
from harness.render import markdown

LATER = {**PROVENANCE, "created": "2026-02-01T00:00:00+00:00"}


def answered(scores: list[float] | None = None, **changes: Any) -> list[dict[str, Any]]:
    """Unpruned and FastV on two tasks."""
    scores = scores or [1.0, 0.0] * 10
    return [
        accuracy(method, budget, task, scores, **changes)
        for method, budget in (("unpruned", None), ("fastv", 64))
        for task in ("count", "digits")
    ]


def altered(change, before=None) -> list[dict[str, Any]]:
    """Records of which FastV's on `count` were changed."""
    after = deepcopy(before or answered())
    change(next(r for r in after if r["cell"] == "fastv@64"))
    return after


def worse(before, after, limits=Limits()) -> set[tuple[str, str]]:  # noqa: B008 - frozen
    findings = record_findings(before, after, limits)
    return {(f.cell, f.quantity) for f in findings if f.verdict is Verdict.WORSE}


# exact


def one_token_too_many(record):
    for column in ("entering", "planned", "cached"):
        record["ledger"][0][column][2] += 1


def one_more_kv_row(record):
    record["ledger"][0]["cached"][3] += 1


def another_parameter(record):
    record["parameters"] = {"layers": [3]}


def another_selection(record):
    record["samples"][4]["selections"] = [{**record["samples"][4]["selections"][0], "kept": "fe"}]


def another_answer(record):
    record["samples"][7]["answer"] = "3"


@pytest.mark.parametrize(
    ("fault", "quantities", "why"),
    [
        (one_token_too_many, {"tokens", "KV rows", "FLOPs"}, "layer 2: 64 → 65 in 20 of 40"),
        (one_more_kv_row, {"KV rows"}, "layer 3: 74 → 75 in 20 of 40"),
        (another_parameter, {"parameters"}, "layers: None → [3]"),
        (another_selection, {"selections"}, "stage rank before layer 2: 1 of 40"),
        (another_answer, {"answers"}, "1 of 40 questions, first count/7"),
    ],
)
def test_a_changed_count_selection_or_answer_is_named(fault, quantities, why):
    assert worse(answered(), answered()) == set()
    findings = record_findings(answered(), altered(fault), Limits())
    found = [f for f in findings if f.verdict is Verdict.WORSE]
    assert {(f.cell, f.quantity) for f in found} == {("fastv@64", q) for q in quantities}
    assert why in found[0].why


def test_counts_must_be_equal_everywhere_but_answers_only_on_equal_ground():
    newer = {**COMMON["versions"], "torch": "2.12"}
    after = altered(another_answer)
    after = [{**r, "identity": {**r["identity"], "versions": newer}} for r in after]
    findings = record_findings(answered(), after, Limits())
    assert not [f for f in findings if f.verdict is Verdict.WORSE]
    whys = {f.why for f in findings if f.quantity in ("answers", "selections")}
    assert whys == {"torch 2.11 → 2.12"}
    assert (
        worse(answered(), [{**r, "provenance": {**LATER, "cpu": "Other"}} for r in after]) == set()
    )
    one_token_too_many(after[2])
    assert ("fastv@64", "tokens") in worse(answered(), after)


def test_a_cell_that_fails_now_is_a_regression_and_one_that_recovers_is_better():
    failed = [
        *answered()[:2],
        without_result("failed", task="count", reason="no memory"),
        answered()[3],
    ]
    (found,) = [f for f in record_findings(answered(), failed, Limits()) if f.verdict == "worse"]
    assert (found.cell, found.quantity, found.why) == ("fastv@64", "status of count", "no memory")
    back = record_findings(failed, answered(), Limits())
    assert [f.quantity for f in back if f.verdict == "better"] == ["status of count"]
    both = record_findings(failed, failed, Limits())
    assert [f.why for f in both if f.verdict == "not comparable"] == ["failed in both: no memory"]


def test_cells_of_one_side_are_shown_and_are_no_regression():
    findings = record_findings(answered(), answered()[:3], Limits())
    lone = [f for f in findings if f.verdict is Verdict.NOT_COMPARABLE]
    assert [(f.cell, f.why) for f in lone] == [("fastv@64", "digits only in the baseline")]
    assert exit_status(findings) == 0


# paired


def drawn(items: int, lost: int, images: int | None = None) -> tuple[list, list]:
    """Records before, and after `lost` right answers became wrong."""
    scores = [1.0, 1.0, 0.0] * (items // 3)
    now = list(scores)
    for index in [i for i, score in enumerate(scores) if score][:lost]:
        now[index] = 0.0
    pair = [accuracy("fastv", 64, "count", s) for s in (scores, now)]
    for record in pair:
        for n, sample in enumerate(record["samples"]):
            sample["image"] = f"image{n % images if images else n}"
    return [pair[0]], [pair[1]]


def test_accuracy_down_by_a_few_points_is_named_and_one_question_is_not():
    assert ("fastv@64", "accuracy") in worse(*drawn(300, lost=9))  # 3 points, p = 2 / 2^9
    assert ("fastv@64", "accuracy") not in worse(*drawn(300, lost=1))
    assert ("fastv@64", "accuracy") not in worse(*drawn(300, lost=0))
    back = record_findings(*reversed(drawn(300, lost=9)), Limits())
    assert [f.verdict for f in back if f.quantity == "accuracy"] == ["better"]


def test_questions_about_one_image_count_as_one():
    """Nine lost answers on nine images are evidence; nine on three images are not."""
    before, after = drawn(300, lost=9, images=3)
    assert ("fastv@64", "accuracy") not in worse(before, after)


def test_p_is_corrected_over_the_cells():
    """p = 2 / 2^6 alone is significant; among four cells that were tested it is not."""
    before, after = drawn(300, lost=6)
    others = [accuracy("random", 64, "count", [1.0] * 300, seed) for seed in range(3)]
    assert ("fastv@64", "accuracy") in worse(before, after)
    assert ("fastv@64", "accuracy") not in worse(before + others, after + others)


@pytest.mark.parametrize(
    ("lost", "tolerance", "verdict"),
    [(9, 6.0, "same"), (9, 4.0, "worse"), (0, 0.0, "same"), (1, 0.5, "worse"), (1, 2.0, "same")],
)
def test_with_a_tolerance_a_cell_must_be_shown_to_lose_no_more(lost, tolerance, verdict):
    findings = record_findings(*drawn(300, lost), Limits(tolerance=tolerance))
    assert [f.verdict for f in findings if f.quantity == "accuracy"] == [verdict]


def test_scores_beyond_one_keep_their_scale_on_both_sides():
    before = [accuracy("fastv", 64, "count", [50.0, 70.0, 60.0])]
    after = [accuracy("fastv", 64, "count", [1.0, 1.0, 0.0])]
    (found,) = [f for f in record_findings(before, after, Limits()) if f.quantity == "accuracy"]
    assert (found.before, round(found.after, 6)) == (60.0, round(2 / 3, 6))


# ratio


def timed(rng: np.random.Generator, rounds: int = 40, **slower: float) -> list[dict[str, Any]]:
    """A run as noisy as those of `results/first`: 3.5 % a round's ratio, one cell in ten far off.

    Slow rounds cancel; what differs from run to run does not. `slower` multiplies the pruned
    cell's phases; the selection is part of no other phase.
    """
    base = {"vision_tower": 0.033, "prefill": 0.040, "decode": 0.015, "end_to_end": 0.32}
    cells = [efficiency_cell("unpruned", None, 0.1), efficiency_cell("vitcop", 64, 0.1)]
    common = np.exp(rng.normal(0, 0.1, rounds)) * np.where(rng.random(rounds) < 0.1, 1.7, 1.0)
    for cell in cells:
        pruned = cell["budget"] is not None
        bias = np.exp(rng.normal(0, 0.005))
        selection = 0.006 * slower.get("selection", 1.0) if pruned else 0.0
        for phase, seconds in {**base, "selection": selection}.items():
            noise = np.exp(rng.normal(0, 0.04, rounds)) * np.where(
                rng.random(rounds) < 0.04, 1.4, 1
            )
            factor = slower.get(phase, 1.0) if pruned else 4.5 if phase == "prefill" else 1.0
            cell["raw_seconds"][phase] = (seconds * factor * bias * common * noise).tolist()
    return [efficiency(cells)]


@pytest.mark.parametrize(
    ("slower", "quantity"),
    [({"prefill": 1.1, "selection": 1.1}, "prefill ×"), ({"selection": 2.0}, "selection ×")],
)
def test_a_slower_phase_is_named_in_19_of_20_runs(slower, quantity):
    caught = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        caught += ("vitcop@64", quantity) in worse(timed(rng), timed(rng, **slower))
    assert caught >= 19


def test_equal_runs_raise_no_more_than_one_alarm_in_50_pairs():
    rngs = map(np.random.default_rng, range(50))
    assert sum(bool(worse(timed(rng), timed(rng))) for rng in rngs) <= 1


def test_the_threshold_is_the_users():
    rng = np.random.default_rng(0)
    slow = timed(rng), timed(rng, decode=1.3)
    assert worse(*slow) == {("vitcop@64", "decode ×")}
    assert worse(*slow, Limits(max_slowdown=0.5)) == set()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"provenance": {**LATER, "cpu": "Another"}}, "cpu A processor → Another"),
        ({"provenance": {**LATER, "threads": 64}}, "threads None → 64"),
    ],
)
def test_times_of_two_machines_are_left_out_and_it_is_said(change, why):
    rng = np.random.default_rng(0)
    after = [{**timed(rng, decode=2.0)[0], **change}]
    findings = [f for f in record_findings(timed(rng), after, Limits()) if f.kind == "ratio"]
    assert {f.verdict for f in findings} == {Verdict.NOT_COMPARABLE}
    assert {f.why for f in findings} == {why}


def test_a_few_rounds_say_nothing():
    findings = record_findings([efficiency()], [efficiency()], Limits())
    assert "3 rounds, at least" in next(f.why for f in findings if f.quantity == "prefill ×")


def test_the_counts_of_the_timed_input_are_exact():
    after = efficiency()
    after["cells"][1]["kv_cache_bytes"] += 512
    one_more_kv_row(after["cells"][1])
    assert worse([efficiency()], [after]) == {
        ("fastv@64", "KV bytes"),
        ("fastv@64", "timed KV rows"),
    }


def test_device_peaks_are_compared_as_ratios_and_process_peaks_are_not():
    def run(peak, kind):
        cells = [efficiency_cell("unpruned", None, 0.1), efficiency_cell("fastv", 64, 0.05)]
        cells[1]["peak_bytes"] = peak
        return [efficiency([{**cell, "peak_kind": kind} for cell in cells])]

    assert worse(run(2**20, "device"), run(2**21, "device")) == {("fastv@64", "peak memory ×")}
    assert worse(run(2**20, "process"), run(2**21, "process")) == set()


# what is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_digest", "fedcba"),
        ("task_version", "2.0"),
        ("limit", 7),
        ("batch_size", 8),
        ("dtype", "bfloat16"),
    ],
)
def test_another_question_is_refused_with_the_field(field, value):
    after = [{**r, "identity": {**r["identity"], field: value}} for r in answered()]
    with pytest.raises(IncomparableError, match=f"the {field} of .* in the baseline and"):
        record_findings(answered(), after, Limits())


def test_another_seed_is_refused():
    with pytest.raises(IncomparableError, match=r"the seed of fastv@64 on count is 0 .* and 3"):
        record_findings([accuracy()], [accuracy(seed=3)], Limits())


def test_of_several_current_records_the_newest_comparable_counts():
    older = altered(another_answer)
    newer = [{**r, "provenance": LATER} for r in answered()]
    other = [{**r, "identity": {**r["identity"], "limit": 3}} for r in answered()]
    assert worse(answered(), [*older, *newer, *other]) == set()


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
    sample = base[-1]["samples"][0]
    assert sample["first_token"] == {}
    assert all("kept" not in kept for kept in sample["selections"])
    # a baseline made of a baseline is the same
    write_baseline(tmp_path / "again", base)
    assert read_directory(tmp_path / "again") == base


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


def test_equal_benchmarks_give_equal_bytes(tmp_path):
    run = benchmarks(np.random.default_rng(0))
    for name in ("a.json.gz", "b.json.gz"):
        write_benchmarks(tmp_path / name, run)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
