"""The table of requests a second: from raw rounds alone, and whatever ended the way up."""

from __future__ import annotations

import csv
import io
from copy import deepcopy
from typing import Any

import pytest
from from_bodies import page, requests_of, tables
from hostile_records import FAULTS, places
from synthetic_records import accuracy, efficiency, efficiency_cell

from harness.cli.app import main
from harness.records import file
from harness.records.faults import fault
from harness.records.record import record_of
from harness.tables.brief import brief, fitted
from harness.tables.table import comma_separated, markdown
from harness.tables.terminal import WIDTH, plain


def rounds(batch: int, *seconds: float) -> dict[str, Any]:
    return {"batch": batch, "seconds": list(seconds)}


def found(ended: str = "growth", reason: str | None = None, **changes: Any) -> dict[str, Any]:
    whole = {
        "gib": 4.0,
        "ended": ended,
        "reason": reason,
        "batches": [rounds(1, 0.1, 0.1, 0.12), rounds(2, 0.1, 0.1, 0.1), rounds(4, 0.2, 0.2, 0.2)],
        "saturated": rounds(2, 0.1, 0.1, 0.2),
    }
    return {**whole, **changes}


def run(*saturations: dict[str, Any] | None) -> dict[str, Any]:
    """Unpruned, FastV and ViTCoP, as many as there are."""
    cells = [
        efficiency_cell("unpruned", None, 0.1),
        efficiency_cell("fastv", 64, 0.05),
        efficiency_cell("vitcop", 64, 0.05),
    ][: len(saturations)]
    for cell, saturation in zip(cells, saturations, strict=True):
        if saturation is not None:
            cell["saturation"] = saturation
    return efficiency(cells)


def row(record: dict[str, Any], method: str) -> dict[str, str]:
    text = comma_separated(tables([record])[1])
    (one,) = [each for each in csv.DictReader(io.StringIO(text)) if each["method"] == method]
    return one


def test_numbers_are_those_of_the_rounds():
    # FastV at batch 4 takes unpruned's time at batch 2, but in the last round half of it
    record = run(found(), found(saturated=rounds(4, 0.1, 0.1, 0.1)))
    whole, fastv = row(record, "Unpruned"), row(record, "FastV")
    assert (whole["saturated_batch"], fastv["saturated_batch"]) == ("2", "4")
    assert (whole["batch_1_ms"], whole["batch_1_ms_q1"], whole["batch_1_ms_q3"]) == (
        *("100", "100"),
        "110",
    )
    assert (whole["requests_per_second"], whole["requests_per_second_q1"]) == ("20.0", "15.0")
    assert whole["new_tokens_per_second"] == "80.0"  # 4 of each request
    assert fastv["requests_per_second"] == "40.0"
    assert [fastv[f"requests_{part}"] for part in ("ratio", "ratio_low", "ratio_high")] == [
        *("2.00", "2.00"),
        "4.00",
    ]
    assert (whole["requests_ratio"], whole["requests_ratio_low"]) == ("1", "")
    assert whole["requests_per_second_by_batch"] == "1: 10.0, 2: 20.0, 4: 20.0"
    assert whole["ended_by"] == "no growth"


def test_fewer_tokens_may_give_fewer_requests():
    """Faster alone, slower where it matters: what no other table shows."""
    record = run(found(), found(batches=[rounds(1, 0.05)], saturated=rounds(1, 0.08, 0.08, 0.16)))
    whole, fastv = row(record, "Unpruned"), row(record, "FastV")
    assert float(fastv["batch_1_ms"]) < float(whole["batch_1_ms"])
    assert fastv["requests_ratio"] == "0.62"
    glance = plain(fitted(brief(tables([record])[1])))
    assert "0.62" in glance


def test_at_a_glance_it_is_narrow_and_has_its_columns():
    record = run(found(), found("memory"), found("time"))
    table = fitted(brief(tables([record])[1]))
    assert [column.title for column in table.columns] == [
        *("Method", "Tokens counted", "Batch 1 ms", "Saturated at", "Requests/s", "× unpruned"),
        "Ended by",
    ]
    text = plain(table)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "20.0 ±5.0" in text
    assert "≈ 1.00" in text
    assert "64 tokens a layer" in text
    said = " ".join(text.split())
    assert "Memory: 4 GiB, weights included, hold no larger batch." in said
    assert "Minutes: there was no time for a larger batch." in said


def test_words_that_no_cell_ended_by_are_not_explained():
    (legend,) = tables([run(found())])[1].legend
    assert "Memory:" not in legend
    assert "Minutes:" not in legend


def test_what_has_no_number_says_why():
    none = {"gib": 4.0, "ended": "memory", "reason": None, "batches": []}
    broke = found("failure", "at batch 4: ValueError: planted")
    del broke["saturated"]
    record = run(found(), none, broke)
    table = tables([record])[1]
    assert table.failed
    assert row(record, "FastV")["ended_by"] == "memory"
    assert row(record, "FastV")["batch_1_ms"] == row(record, "FastV")["requests_ratio"] == ""
    assert row(record, "ViTCoP")["ended_by"] == "FAILED: at batch 4: ValueError: planted"
    assert row(record, "ViTCoP")["batch_1_ms"] == "100"
    assert not tables([run(found(), none)])[1].failed
    assert "FAILED" in markdown(brief(table))


def test_a_cell_that_was_not_timed_keeps_its_reason():
    record = run(found(), None)
    record["cells"][1] |= {"status": "out_of_memory", "reason": "out of memory at batch 1"}
    assert row(record, "FastV")["ended_by"] == "out of memory at batch 1"


def test_without_unpruned_there_are_no_ratios():
    record = run(found(), found())
    record["cells"][0] |= {"status": "failed", "reason": "no"}
    assert row(record, "FastV")["requests_ratio"] == ""


def test_runs_that_did_not_look_for_it_have_no_such_table():
    assert [table.title for table in tables([efficiency()])] == ["Efficiency"]
    assert [table.title for table in tables([run(found(), found())])] == [
        "Efficiency",
        "Saturation",
    ]


def test_report_and_show_have_it(tmp_path, capsys):
    record = run(found(), found())
    assert "<caption>Saturation</caption>" in page([accuracy("unpruned", None), accuracy(), record])
    file.write(tmp_path, record)
    (path,) = tmp_path.iterdir()
    assert main(["show", str(path)]) == 0
    assert "Saturation" in capsys.readouterr().out


def test_a_baseline_that_looked_for_it_is_asked_the_same(tmp_path):
    record = run(found(), found())
    record["identity"] = {**record["identity"], "saturate_gib": 4.0}
    (request,) = requests_of([record], tmp_path)
    assert request.saturate_gib == 4.0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"saturated": rounds(2, 0.1)}, "its cells differ in their numbers of rounds"),
        ({"saturated": rounds(2)}, "not a list that is not empty"),
        ({"saturated": rounds(2, 0.0, 0.1, 0.1)}, "not a number of seconds above 0"),
        ({"batches": [rounds(0, 0.1)]}, "not a whole number from 1"),
        ({"ended": "boredom"}, "not one of growth, memory, time, failure"),
    ],
)
def test_wrong_content_is_found_when_it_is_read(change, why):
    assert fault(run(found(), found()), whole=True) is None
    assert why in str(fault(run(found(), {**found(), **change}), whole=True))


def test_no_fault_ends_a_table_in_a_traceback():
    """At every place of a cell's saturation, whatever is read is shown or refused by name."""
    record = run(found(), found())
    refused = 0
    for path in places(found()):
        for wrong in FAULTS.values():
            changed = deepcopy(record)
            inside: Any = changed["cells"][1]["saturation"]
            for step in path[:-1]:
                inside = inside[step]
            inside[path[-1]] = wrong
            if fault(changed, whole=True) is not None:
                refused += 1
                continue
            assert len(tables([record_of(changed)])) == 2
    assert refused > 100
