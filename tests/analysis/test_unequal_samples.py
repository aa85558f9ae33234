"""Samples of unequal numbers of tokens: means in the row, their range in its note."""

from __future__ import annotations

from typing import Any

from synthetic_records import LAYERS, accuracy, ledger_row

from harness.analysis.rows import Row, rows_of
from harness.records.file import checked
from harness.records.record import AccuracyRecord


def of_samples(*tokens: int, cell: str = "fastv@50%", budget: int | str = "50%") -> dict[str, Any]:
    """A record of so many tokens a layer of each sample, half of what its images have."""
    body = accuracy(scores=[1.0] * len(tokens))
    samples = [{**sample, "ledger": i} for i, sample in enumerate(body["samples"])]
    ledger = [{**ledger_row([own] * LAYERS, 1), "visual": 2 * own} for own in tokens]
    identity = {**body["identity"], "budget": budget}
    return {**body, "cell": cell, "samples": samples, "ledger": ledger, "identity": identity}


def row_of(body: dict[str, Any]) -> Row:
    record = checked(body)
    assert isinstance(record, AccuracyRecord)
    return rows_of([record])[0]


def test_the_range_over_samples_stands_in_the_note() -> None:
    row = row_of(of_samples(40, 60, 110))
    assert row.tokens == 70
    assert row.note == "40.0 to 110.0 tokens by sample"
    assert row.asked.budget_label == "50%"


def test_samples_that_differ_by_rounding_have_no_range() -> None:
    assert row_of(of_samples(64, 63, 65)).note == ""


def test_a_sample_that_kept_another_share_fails_the_cell() -> None:
    body = of_samples(40, 60, 110)
    body["ledger"][1]["visual"] = 200
    assert "requested were 50% of 200" in row_of(body).note
