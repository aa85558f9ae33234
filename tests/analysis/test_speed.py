"""Derived quantities against numbers worked out by hand; planted faults raise doubts."""

from __future__ import annotations

from math import inf, isnan

import pytest
from from_bodies import ledger, made, rates, tables, timed
from synthetic_records import SHAPE, efficiency, efficiency_cell
from table_rows import row

from harness.analysis import speed
from harness.records import cost
from harness.records.ledger import mean_prefill_flops
from harness.tables.terminal import plain

RATES = {"flops_per_second": 1e12, "bytes_per_second": 1e9}
TOWER = ("tower", "patch_values", "projector", "image_tokens")
OPERATOR = "aten::_scaled_dot_product_flash_attention"


def cell(name: str, budget: int | None, first: float, step: float, steps: int = 3) -> dict:
    """A cell of three rounds: seconds of prefill and of each new token; the phases sum to all."""
    made = efficiency_cell(name, budget, first)
    shape = efficiency()["shape"]
    entering, text = made["ledger"][0]["entering"], made["ledger"][0]["text"]
    raw = {
        **{phase: [0.0] * 3 for phase in ("vision_tower", "projector", "selection")},
        "prefill": [first] * 3,
        "stages": [[]] * 3,
        "decode": [[step] * steps] * 3,
        "between_tokens": [[0.0] * steps] * 3,
        "end_to_end": [first + steps * step] * 3,
    }
    return {
        **made,
        "raw_seconds": raw,
        "merged_rows": 0,
        "attention": {"operators": [OPERATOR], "kernels": ["flash_fwd_kernel"]},
        "counted_flops": {"prefill": cost.prefill_flops(shape, entering, text)},
        "kv_cache_bytes": cost.kv_cache_bytes(shape, made["ledger"][0]["cached"], "float32"),
    }


def run(*cells: dict, **changes) -> dict:
    record = efficiency(list(cells))
    record["identity"] |= {"images": 1, "prompt_tokens": 10, "batch_size": 1, "dtype": "float32"}
    extra = {"rates": RATES, "weight_bytes": 2**20, "stock_seconds": [0.1] * 3, "gpu_after": {}}
    return {**record, **extra, **changes}


@pytest.mark.parametrize(
    ("first", "step", "tokens"),
    [
        (0.5, 0.01, 1 + 0.45 / 0.0005),  # decoding is equally slow: 0.95 of it is soon not enough
        (0.5, 0.009, inf),  # a tenth is saved of every token
        (0.99, 0.01, 0),  # one per cent of the prefill is too little from the start
        (0.99, 0.008, inf),
    ],
)
def test_break_even(first, step, tokens) -> None:
    theirs = cell("unpruned", None, 1.0, 0.01)
    assert speed.break_even(timed(cell("fastv", 64, first, step)), timed(theirs)) == pytest.approx(
        tokens
    )


def test_share_of_theory() -> None:
    ours, theirs = cell("fastv", 64, 0.4, 0.01), cell("unpruned", None, 1.0, 0.01)
    (record,) = made([run(theirs, ours)])
    flops = [mean_prefill_flops(ledger(cell), SHAPE) for cell in (ours, theirs)]
    promised = flops[0] / flops[1]
    saved, gained = speed.theory_share(timed(ours), timed(theirs), record)
    assert saved == pytest.approx(0.6 / (1 - promised))
    assert gained == pytest.approx(2.5 * promised)


def test_decoding_is_compared_at_equal_context() -> None:
    ours, theirs = cell("fastv", 64, 0.4, 0.009), cell("unpruned", None, 1.0, 0.02)
    plain_run = {"rows": 64 + 10, "status": "ok", "reason": None, "decode": [[0.01] * 3] * 3}
    longer = {**plain_run, "rows": 586, "status": "failed", "reason": "no memory", "decode": []}
    record = run(theirs, ours, equal_context=[plain_run, longer])
    assert speed.decode_at_equal_context(timed(ours), *made([record])) == [0.01] * 3
    assert row([record], "FastV")["decode_equal_context_ratio"] == "0.90"
    assert row([record], "Unpruned")["decode_equal_context_ratio"] == ""
    shown = plain(tables([record])[0])
    assert "×0.90 [0.90, 0.90]" in shown
    assert "FAILED after 586 rows: no memory." in shown
    assert tables([record])[0].failed
    assert not tables([{**record, "equal_context": [plain_run]}])[0].failed
    assert "equal context" not in plain(tables([run(theirs, ours)])[0])


def test_where_nothing_is_pruned_nothing_is_promised() -> None:
    same, theirs = cell("uniform", 576, 1.0, 0.01), cell("unpruned", None, 1.0, 0.01)
    same["ledger"] = theirs["ledger"]
    assert isnan(speed.theory_share(timed(same), timed(theirs), *made([run(theirs, same)]))[0])


def test_a_floor_is_the_larger_of_computing_and_moving() -> None:
    assert speed.Floor(2e12, 1e9).seconds(rates(RATES)) == 2
    assert speed.Floor(2e12, 3e9).seconds(rates(RATES)) == 3
    (record,) = made([run(cell("unpruned", None, 1.0, 0.01))])
    found = speed.floors(record.cells[0], record)
    assert found["prefill"].flops == mean_prefill_flops(record.cells[0].ledger, SHAPE)
    assert found["decode"].bytes > 4 * cost.decoder_weights(SHAPE)
    assert found["end_to_end"].seconds(rates(RATES)) > found["prefill"].seconds(rates(RATES))


def test_rows_that_left_inside_the_tower_lower_the_floors_of_tower_and_projector() -> None:
    whole, halved = cell("fastv", 64, 0.5, 0.01), cell("flowcut", 64, 0.5, 0.01)
    rows, layers = SHAPE["tower_rows"], SHAPE["tower_layers"]
    halved["ledger"][0]["tower"] = [[[rows, rows]] + [[65, 65]] * (layers - 1)]
    (record,) = made([run(whole, halved)])
    before, after = (speed.floors(found, record) for found in record.cells)
    layer = (cost.tower_flops(SHAPE) - cost.tower_flops(SHAPE, [(0, 0)] * layers)) / layers
    shorter = layer - 2 * 65 * (cost.tower_weights(SHAPE) - _embedding()) / layers
    saved = (layers - 1) * (shorter - 4 * 65 * 65 * SHAPE["tower_width"])
    assert before["vision_tower"].flops - after["vision_tower"].flops == pytest.approx(saved)
    assert after["projector"].flops == cost.projector_flops(SHAPE, 64)
    assert before["projector"].flops == cost.projector_flops(SHAPE, 576)
    assert after["prefill"] == before["prefill"]
    assert after["end_to_end"].flops < before["end_to_end"].flops


def test_floors_of_the_tower_are_of_what_was_encoded_where_a_record_tells() -> None:
    old, told = cell("unpruned", None, 1.0, 0.01), cell("unpruned", None, 1.0, 0.01)
    decoder = {name: SHAPE[name] for name in SHAPE if not name.startswith(TOWER)}
    (record,) = made([run(old, shape=decoder)])
    assert speed.floors(record.cells[0], record).keys() == {"prefill", "decode"}
    told["ledger"][0] |= {"tower_flops": 7e12, "projected": 0}
    (record,) = made([run(told, shape={**decoder, "tower_matrices": 10**6})])
    inside = speed.floors(record.cells[0], record)
    assert inside["vision_tower"] == speed.Floor(7e12, 4e6)
    assert inside.keys() == {"vision_tower", "prefill", "decode", "end_to_end"}
    told["ledger"][0]["projected"] = 5
    weights = {"tower_matrices": 10**6, "projector_matrices": 10**3}
    (record,) = made([run(told, shape={**decoder, **weights})])
    behind = speed.floors(record.cells[0], record)
    assert behind["projector"] == speed.Floor(2 * 5 * 10**3, 4 * 10**3)
    assert behind["end_to_end"].flops > inside["end_to_end"].flops


def _embedding() -> int:
    return SHAPE["patch_values"] * SHAPE["tower_width"]


def test_what_holds_raises_no_doubt() -> None:
    for record in made([run(cell("unpruned", None, 1.0, 0.01)), efficiency()]):
        assert speed.doubts(record.cells[0], record) == []


def test_planted_faults_are_told() -> None:
    faulty = cell("unpruned", None, 1.0, 0.01)
    faulty["raw_seconds"]["end_to_end"] = [2.0] * 3
    faulty["counted_flops"]["prefill"] *= 2
    faulty["kv_cache_bytes"] *= 2
    doubts = speed.doubts(timed(faulty), *made([run(faulty)]))
    assert doubts[0] == "phases sum to 52 % of end to end"
    assert doubts[1] == "counted FLOPs of prefill are +100.0 % off the formula"
    assert doubts[2] == "the KV cache is +100.0 % off the formula"
    assert doubts[0] in plain(tables([run(faulty)])[0])


def test_the_table_names_the_kernel_and_shouts_when_cells_differ() -> None:
    same = [cell("unpruned", None, 1.0, 0.01), cell("fastv", 64, 0.4, 0.01)]
    assert f"Attention in every cell, as profiled: {OPERATOR}" in plain(tables([run(*same)])[0])
    same[1]["attention"] = {
        "operators": ["aten::_scaled_dot_product_attention_math"],
        "kernels": [],
    }
    assert "ATTENTION KERNELS DIFFER" in plain(tables([run(*same)])[0])


def test_out_of_memory_is_a_result_and_no_failure() -> None:
    full = {
        **{k: v for k, v in efficiency_cell("fastv", 64, 0.1).items() if k != "ledger"},
        "status": "out_of_memory",
        "reason": "out of memory at batch 32",
    }
    table = tables([run(cell("unpruned", None, 1.0, 0.01), full)])[0]
    assert "out of memory at batch 32" in plain(table)
    assert not table.failed


def test_a_busy_gpu_is_in_the_footer() -> None:
    state = {
        "sm_clock_mhz": 1980.0,
        "most_sm_clock_mhz": 1980.0,
        "temperature_celsius": 40.0,
        "utilisation_percent": 99.0,
        "processes": 3,
        "slowdown_bits": 0x40,
    }
    record = run(cell("unpruned", None, 1.0, 0.01), gpu_warm=state, gpu_after=state)
    text = plain(tables([record])[0])
    assert "SM clock 1980 to 1980 MHz of 1980, 40 °C." in text
    assert "2 other processes are on it, hardware thermal slowdown" in text
