"""Accuracy tables from synthetic records: the numbers, and the promises behind them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from from_bodies import ledger, tables
from synthetic_records import LAYERS, SHAPE, accuracy, ledger_row, without_result
from table_rows import row, rows

from harness.errors import sentence
from harness.records import cost
from harness.records.cell import infeasible
from harness.records.file import read_all
from harness.records.ledger import broken_promise
from harness.tables.terminal import plain

RESULTS = Path(__file__).parents[2] / "results"


def test_unpruned_comes_first_then_budgets_from_large_to_small():
    cells = [("vitcop", 64), ("random", 64), ("fastv", 64), ("fastv", 192), ("unpruned", None)]
    found = rows([accuracy(*cell) for cell in cells])
    assert [(r["method"], r["budget"]) for r in found] == [
        ("Unpruned", ""),
        ("FastV", "192"),
        ("FastV", "64"),
        ("ViTCoP", "64"),
        ("Random", "64"),
    ]
    (table,) = tables([accuracy(*cell) for cell in cells])
    assert table.sections == {0, 1, 2}


def test_numbers_of_a_row():
    base = accuracy("unpruned", None, scores=[1.0, 1.0, 1.0, 0.0])
    found = row([base, accuracy(scores=[1.0, 0.0, 1.0, 0.0])], "FastV")
    assert (found["count"], found["mean"], found["counted_tokens"]) == ("50.0", "50.0", "64.0")
    assert (found["diff"], found["verdict"], found["p"]) == ("-25.0", "n.s.", "1.0000")
    flops = cost.prefill_flops(SHAPE, [64] * LAYERS, 10)
    whole = cost.prefill_flops(SHAPE, [576] * LAYERS, 10)
    assert float(found["prefill_mflop"]) == pytest.approx(flops / 1e6, rel=0.005)
    assert found["prefill_percent"] == f"{100 * flops / whole:.0f}"
    cache = cost.kv_cache_bytes(SHAPE, [74] * LAYERS, "float32")
    assert float(found["kv_cache_kib"]) == pytest.approx(cache / 2**10, rel=0.005)


def test_a_large_difference_is_marked_significant_and_a_small_one_not():
    base = accuracy("unpruned", None, scores=[1.0] * 40)
    worse = accuracy("fastv", scores=[1.0, 0.0] * 20)
    alike = accuracy("vitcop", scores=[1.0] * 39 + [0.0])
    text = plain(tables([base, worse, alike])[0])
    assert row([base, worse], "FastV")["verdict"] == "significant"
    assert re.search(r"ViTCoP .*-2\.5 n\.s\. \[", text)
    assert re.search(r"FastV .*-50\.0 \[", text)


@pytest.mark.parametrize("directory", ["first", "benchmark", "baselines/embedded"])
def test_no_verdict_contradicts_the_interval_beside_it(directory):
    records = list(read_all([RESULTS / directory], print))
    verdicts = set()
    for found in rows(records):
        if found["verdict"]:
            verdicts.add(found["verdict"])
            low, high, p = (float(found[name]) for name in ("diff_low", "diff_high", "p"))
            if found["verdict"] == "n.s.":
                assert low <= 0 <= high, found
                assert p >= 0.05, found
            else:
                assert low >= 0 or high <= 0, found
                assert p <= 0.05, found
    assert verdicts


def test_the_mean_is_over_all_tasks_or_missing():
    both = [accuracy(task="count"), accuracy(task="digits", scores=[0.0] * 4)]
    assert row(both, "FastV")["mean"] == "37.5"
    partial = row([*both, accuracy("vitcop", task="count")], "ViTCoP")
    assert (partial["count"], partial["digits"], partial["mean"]) == ("75.0", "", "")
    assert partial["note"] == "1 of 2 runs"


def test_scores_beyond_one_are_no_percentages():
    assert row([accuracy(scores=[2.0, 4.0])], "FastV")["count"] == "3.0"


def test_seeds_are_one_row_with_mean_and_spread():
    seeds = [accuracy("random", seed=seed, scores=[1.0] * seed + [0.0] * 4) for seed in (1, 3)]
    for record in seeds:
        record["samples"] = record["samples"][:4]
        record["ledger"][0]["samples"] = 4
    base = accuracy("unpruned", None, scores=[1.0] * 4)
    found = row([*seeds, base], "Random")
    assert found["method"] == "Random (2 seeds)"
    assert (found["mean"], found["seed_sd"]) == ("50.0", "35.4")
    assert (found["diff"], found["count"]) == ("-50.0", "50.0")
    assert "50.0 ± 35.4 [" in plain(tables([*seeds, base])[0])


def test_a_seed_that_is_missing_or_failed_spoils_the_row():
    seeds = [accuracy("random", seed=0), accuracy("random", seed=1)]
    second = accuracy("random", seed=1, task="digits")
    assert row([*seeds, second], "Random")["mean"] == ""


def test_settings_are_part_of_the_name():
    assert row([accuracy("fastv:layer=3")], "FastV")["method"] == "FastV layer=3"


def test_infeasible_cells_say_what_is_feasible():
    base = accuracy("unpruned", None)
    cell = without_result("infeasible", budget=20, reason="r", feasible=[37, 576])
    found = row([base, cell], "FastV")
    assert found["note"] == "infeasible (37–576)"
    assert found["count"] == found["mean"] == found["counted_tokens"] == ""
    assert not tables([base, cell])[0].failed
    assert infeasible([None, None]) == "infeasible"


def test_failed_cells_show_their_reason_on_one_line():
    base = [accuracy("unpruned", None, task=task) for task in ("count", "digits")]
    failed = without_result("failed", reason="SampleError: item 3\n\n  went wrong")
    other = accuracy(task="digits")
    (table,) = tables([*base, failed, other])
    found = row([*base, failed, other], "FastV")
    assert table.failed
    assert found["note"] == "FAILED in count: SampleError: item 3 went wrong"
    assert (found["count"], found["digits"], found["mean"]) == ("", "75.0", "")
    assert len(sentence("x" * 1000)) == 300


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"entering": [64, 65, 64, 64], "cached": [74, 75, 74, 74]}, "65 visual tokens entered"),
        ({"cached": [74, 74, 74, 148]}, "layer 3 caches 148 rows, 74 tokens entered it"),
        ({"planned": [64] * 3}, "4 layers were counted, 3 planned"),
    ],
)
def test_a_broken_promise_in_any_sample_and_layer_is_never_printed_as_if_it_held(change, reason):
    good = ledger_row([64] * LAYERS, 3)
    broken = {**ledger_row([64] * LAYERS, 1), **change}
    record = accuracy(ledger=[good, broken])
    record["samples"][3]["ledger"] = 1
    found = row([accuracy("unpruned", None), record], "FastV")
    assert found["note"].startswith("FAILED: ")
    assert reason in found["note"]
    assert {v for k, v in found.items() if k not in ("method", "budget", "note")} == {""}


def test_where_data_decide_the_layers_counts_their_sum_has_to_hold():
    def found(entering, **more):
        body = {**ledger_row(entering, 4), "planned": [100, 52, 52, 52], **more}
        return row([accuracy(ledger=[body])], "FastV")["note"]

    assert found([100, 70, 43, 43], by_data=True) == ""
    assert found([100, 70, 43, 43]) == ("FAILED: 70 visual tokens entered layer 1, planned were 52")
    assert found([100, 70, 43, 42], by_data=True) == (
        "FAILED: 255 visual tokens entered all layers together, not 256"
    )
    kept = [110, 80, 53, 53]
    assert "layer 3 caches 54 rows" in found(
        [100, 70, 43, 43], by_data=True, cached=[*kept[:3], 54]
    )


def test_a_mean_off_the_request_by_more_than_one_fails_and_by_one_holds():
    def found(entering, **identity):
        record = accuracy(ledger=[ledger_row(entering, 4)])
        record["identity"] = {**record["identity"], **identity}
        return row([record], "FastV")["note"]

    assert found([576, 10, 10, 10]) == (
        "FAILED: 151.5 visual tokens entered a layer on average, requested were 64"
    )
    assert found([130, 66, 32, 32]) == ""  # 65.0
    assert "65.2 visual" in found([131, 66, 32, 32])
    assert "62.8 visual" in found([64, 63, 62, 62])
    published = {"settings": {"schedule": "published"}}
    assert found([576, 10, 10, 10], **published) == ""


def test_a_sample_with_fewer_tokens_than_the_budget_stays_whole():
    small = ledger_row([30] * LAYERS, 1)
    record = accuracy(ledger=[ledger_row([64] * LAYERS, 3), small])
    record["samples"][3] |= {"ledger": 1, "selections": []}
    assert row([record], "FastV")["note"] == ""
    record["samples"][3]["selections"] = [{"stage": "rank"}]
    assert "30.0 visual tokens" in row([record], "FastV")["note"]
    grown = ledger_row([600] * LAYERS, 1)
    assert broken_promise(ledger({"ledger": [grown]}), 64, published=False, whole=[0])


def test_nothing_counted_is_a_broken_promise():
    assert broken_promise([], 64, published=False) == "no tokens were counted"


# grouping and origin


def test_configurations_are_never_mixed():
    other = accuracy("vitcop")
    other["identity"] = {**other["identity"], "dtype": "bfloat16"}
    assert [len(table.rows) for table in tables([accuracy(), other])] == [1, 1]


def test_of_one_identity_the_newest_counts_and_the_newest_configuration_comes_last():
    def at(hour, record):
        created = f"2026-01-01T{hour:02d}:00:00+00:00"
        return {**record, "provenance": {**record["provenance"], "created": created}}

    old, new = at(1, accuracy(scores=[0.0] * 4)), at(2, accuracy(scores=[1.0] * 4))
    assert row([new, old], "FastV")["mean"] == "100.0"
    newest = accuracy("vitcop")
    newest["identity"] = {**newest["identity"], "limit": 4}
    assert [t.rows[0][0] for t in tables([at(3, newest), old])] == [("FastV",), ("ViTCoP",)]


def test_an_older_version_of_a_task_is_left_out():
    old = accuracy("vitcop")
    old["identity"] = {**old["identity"], "task_version": "0.9"}
    old["provenance"] = {**old["provenance"], "created": "2025-01-01T00:00:00+00:00"}
    assert [r["method"] for r in rows([accuracy(), old])] == ["FastV"]


def test_a_drawn_sample_is_no_whole_task():
    drawn = accuracy("vitcop")
    drawn["identity"] = {**drawn["identity"], "samples_per_task": 4, "sample": 7}
    whole, sampled = tables([accuracy(), drawn])
    assert "4 questions a task ·" in whole.notes[-1]
    assert "4 sampled questions a task, seed 7 ·" in sampled.notes[-1]


def test_the_last_note_says_where_the_numbers_come_from():
    dirty = accuracy("vitcop")
    dirty["provenance"] = {**dirty["provenance"], "dirty": True}
    origin = tables([accuracy(), dirty])[0].notes[-1]
    for part in (
        "4 questions a task",
        "model tiny 0123456789",
        "float32",
        "sdpa",
        "batch 1",
        "cpu / A processor",
        "python 3.11, torch 2.11",
        "commit abcdef0123 (dirty)",
    ):
        assert part in origin
    uneven = [accuracy(), accuracy(task="digits", scores=[1.0])]
    assert "questions: count 4, digits 1" in tables(uneven)[0].notes[-1]
