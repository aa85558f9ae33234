"""The gate's findings on records made of nothing: planted regressions, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from altered_records import (
    altered,
    another_answer,
    another_parameter,
    another_selection,
    answered,
    one_more_kv_row,
    one_token_too_many,
    worse,
)
from from_bodies import record_findings
from synthetic_records import (
    COMMON,
    PROVENANCE,
    accuracy,
    efficiency,
    efficiency_cell,
    without_result,
)

from harness.regress.findings import Verdict
from harness.regress.records import Limits
from harness.regress.sources import IncomparableError
from harness.regress.table import exit_status

LATER = {**PROVENANCE, "created": "2026-02-01T00:00:00+00:00"}


# exact


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


def test_an_interval_without_0_beside_same_is_explained():
    before, after = drawn(300, lost=6)
    others = [accuracy("random", 64, "count", [1.0] * 300, seed) for seed in range(3)]
    findings = record_findings(before + others, after + others, Limits())
    (found,) = [f for f in findings if (f.cell, f.quantity) == ("fastv@64", "accuracy")]
    assert found.difference.high < 0
    assert found.p == pytest.approx(4 * 2 / 2**6)
    assert (found.verdict, found.why) == (
        Verdict.SAME,
        "significant by itself, but not among so many cells",
    )
    told = {f.why for f in findings if f.quantity == "accuracy" and f is not found}
    assert told == {""}


def test_cells_of_one_budget_in_tokens_and_in_flops_are_two():
    def matched(score):
        record = accuracy(scores=[score] * 20)
        identity = {**record["identity"], "matched": 65}
        return {**record, "cell": "fastv@64=65", "identity": identity}

    before = [accuracy(scores=[1.0] * 20), matched(1.0)]
    after = [accuracy(scores=[1.0] * 20), matched(0.0)]
    assert {cell for cell, _ in worse(before, after)} == {"fastv@64=65"}


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
        ("frames", 16),
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
