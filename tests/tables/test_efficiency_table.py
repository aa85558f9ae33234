"""Efficiency tables from synthetic records: ratios by round, and cells without numbers."""

from __future__ import annotations

from from_bodies import tables
from synthetic_records import LAYERS, efficiency, efficiency_cell
from table_rows import row, rows

from harness.tables.terminal import plain


def test_times_are_medians_with_ratios_by_round():
    found = row([efficiency()], "FastV")
    assert (found["prefill_ms"], found["prefill_q1_ms"], found["prefill_q3_ms"]) == (
        "57.0",  # 50, 55, 60 and 2 ms of selection
        "54.5",
        "59.5",
    )
    assert found["selection_ms"] == "2.00"
    assert found["decode_ms"] == "4.00"
    assert (found["end_to_end_ratio"], found["end_to_end_ratio_low"]) == ("0.50", "0.50")
    assert found["vision_tower_ratio"] == "1.00"
    assert (found["peak_process_mib"], found["kv_cache_mib"]) == ("3.00", "1.00")
    base = row([efficiency()], "Unpruned")
    assert (base["prefill_ms"], base["prefill_ratio"], base["selection_ms"]) == ("110", "", "")
    assert "×0.50 [0.50, 0.50]" in plain(tables([efficiency()])[0])


def test_a_slow_round_cancels_in_the_ratio():
    run = efficiency()
    for cell in run["cells"]:
        cell["raw_seconds"]["end_to_end"][1] *= 10
    found = row([run], "FastV")
    assert (found["end_to_end_ratio_low"], found["end_to_end_ratio_high"]) == ("0.50", "0.50")


def test_efficiency_cells_that_failed_or_broke_their_promise_have_no_numbers():
    base = efficiency_cell("unpruned", None, 0.1)
    failed = {
        **efficiency_cell("fastv", 64, 0.1),
        "status": "failed",
        "reason": "OutOfMemoryError: 3 GiB",
    }
    broken = efficiency_cell("vitcop", 64, 0.1)
    broken["ledger"][0]["entering"] = [576] * LAYERS
    outline = {"cell": "fastv@20", "method": failed["method"], "budget": 20}
    infeasible = {**outline, "status": "infeasible", "reason": "r", "feasible": [37, 576]}
    run = efficiency([base, failed, broken, infeasible])
    notes = {(r["method"], r["budget"]): r["note"] for r in rows([run])}
    assert notes["FastV", "64"] == "FAILED: OutOfMemoryError: 3 GiB"
    assert notes["ViTCoP", "64"].startswith("FAILED: 576 visual tokens entered layer 0")
    assert notes["FastV", "20"] == "infeasible (37–576)"
    assert tables([run])[0].failed
    assert row([run], "ViTCoP")["prefill_ms"] == ""


def test_a_run_without_a_cell_that_worked_still_gives_a_table():
    outline = {"cell": "unpruned", "method": {"label": "Unpruned"}, "budget": None}
    run = efficiency([{**outline, "status": "failed", "reason": "no memory"}], shape={})
    assert rows([run])[0]["note"] == "FAILED: no memory"


def test_without_unpruned_there_are_times_but_no_ratios():
    found = row([efficiency([efficiency_cell("fastv", 64, 0.05)])], "FastV")
    assert (found["prefill_ms"], found["prefill_ratio"], found["prefill_percent"]) == (
        "57.0",
        "",
        "",
    )
