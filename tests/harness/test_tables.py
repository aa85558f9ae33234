"""Tables from synthetic records: the numbers, the promises, and the same text in every form."""

from __future__ import annotations

import csv
import io
import re

import pytest
from synthetic_records import (
    LAYERS,
    SHAPE,
    accuracy,
    efficiency,
    efficiency_cell,
    ledger_row,
    without_result,
)

from harness import cost, numbers
from harness.ledger import broken_promise
from harness.render import Column, Table, comma_separated, markdown, plain, show
from harness.stats import Estimate
from harness.tables import tables


def rows(records):
    """The first table's rows as CSV dictionaries."""
    return list(csv.DictReader(io.StringIO(comma_separated(tables(records)[0]))))


def row(records, method):
    (found,) = [row for row in rows(records) if row["method"].startswith(method)]
    return found


# accuracy


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
    assert numbers.infeasible([None, None]) == "infeasible"


def test_failed_cells_show_their_reason_on_one_line():
    base = [accuracy("unpruned", None, task=task) for task in ("count", "digits")]
    failed = without_result("failed", reason="SampleError: item 3\n\n  went wrong")
    other = accuracy(task="digits")
    (table,) = tables([*base, failed, other])
    found = row([*base, failed, other], "FastV")
    assert table.failed
    assert found["note"] == "FAILED in count: SampleError: item 3 went wrong"
    assert (found["count"], found["digits"], found["mean"]) == ("", "75.0", "")
    assert len(numbers.sentence("x" * 1000)) == 300


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
    assert broken_promise([grown], 64, published=False, whole=[0])


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


# efficiency


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


# forms

RECORDS = [
    accuracy("unpruned", None),
    accuracy("fastv", 64, scores=[1.0, 0.0, 0.0, 1.0]),
    without_result("infeasible", method="vitcop", reason="r", feasible=[8, 432]),
    *(accuracy("random", seed=seed) for seed in range(3)),
    efficiency(),
]


def terminal(found):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    screen = Screen()
    show(found, screen)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "xterm")


def figures(text):
    return re.findall(r"[-+]?\d+(?:\.\d+)?", text)


@pytest.mark.usefixtures("wide")
def test_every_form_prints_the_same_numbers():
    for table in tables(RECORDS):
        shown = [
            " ".join(" ".join(lines) for line in row for lines in [line]) for row in table.texts()
        ]
        for form in (plain(table), markdown(table), terminal([table])):
            body = form.split(table.notes[0][:20])[0]
            wanted = figures(" ".join(shown))
            assert sorted(figures(body)) == sorted(wanted)
        for csv_row, text in zip(
            csv.DictReader(io.StringIO(comma_separated(table))), shown, strict=True
        ):
            held = {figure for value in csv_row.values() for figure in figures(value)}
            assert set(figures(text)) <= held


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_a_narrow_terminal_loses_no_digit(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    assert "…" not in terminal(tables(RECORDS))


def table_of(text):
    columns = (Column("Method", ("method",), left=True), Column("A|B", ("a",)))
    return Table("T", columns, (((text,), ("1",)), ((), ())), notes=("[bold]note",))


@pytest.mark.usefixtures("wide")
def test_text_is_escaped_in_every_form():
    table = table_of('a|b, "c" [red]d[/red]')
    assert '| a\\|b, "c" [red]d[/red] | 1 |' in markdown(table)
    assert "| Method | A\\|B |" in markdown(table)
    ((method, _), _) = list(csv.reader(io.StringIO(comma_separated(table))))[1:]
    assert method == 'a|b, "c" [red]d[/red]'
    assert 'a|b, "c" [red]d[/red]' in plain(table)
    assert 'a|b, "c" [red]d[/red]' in terminal([table])
    assert "[bold]note" in terminal([table])


def test_missing_is_a_dash_and_plain_columns_align():
    lines = plain(table_of("long name")).splitlines()
    assert lines[2:6] == [
        "Method     A|B",
        "---------  ---",
        "long name    1",
        "–            –",
    ]


def test_not_a_terminal_gets_no_escape_codes():
    out = io.StringIO()
    show(tables(RECORDS), out)
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (0.5, "0.500"),
        (1.234, "1.23"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.5, "1234"),
        (float("nan"), ""),
    ],
)
def test_three_significant_digits(value, text):
    assert numbers.three_digits(value) == text


def test_rounding_and_signs():
    assert numbers.number(-0.04) == "0.0"
    assert numbers.number(0.04, sign=True) == "0.0"
    assert numbers.number(1.25, sign=True) == "+1.2"
    assert numbers.estimate(Estimate(1.0, float("nan"), 2.0)) == ("1.0", "", "2.0")
    assert numbers.flops_unit([2e12, 1e9]) == (1e12, "TFLOP")
    assert numbers.flops_unit([5.0]) == (1e6, "MFLOP")
    assert numbers.bytes_unit([]) == (2.0**10, "KiB")
