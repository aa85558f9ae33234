"""Samples of unequal numbers of tokens: means and their range."""

from __future__ import annotations

from typing import Any

from from_bodies import tables
from synthetic_records import LAYERS, accuracy, ledger_row

from harness.analysis.rows import Row, rows_of
from harness.records.file import checked
from harness.records.record import AccuracyRecord
from harness.tables.table import comma_separated


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


def test_the_row_has_the_range_over_samples() -> None:
    row = row_of(of_samples(40, 60, 110))
    assert row.tokens == 70
    assert row.unequal == (40, 110)
    assert row.note == ""
    assert row.asked.budget_label == "50%"


def test_samples_that_differ_by_rounding_have_no_range() -> None:
    assert row_of(of_samples(64, 63, 65)).unequal is None


def test_a_sample_that_kept_another_share_fails_the_cell() -> None:
    body = of_samples(40, 60, 110)
    body["ledger"][1]["visual"] = 200
    assert "requested were 50% of 200" in row_of(body).note


def test_the_table_tells_it_and_csv_has_it() -> None:
    (table,) = tables([of_samples(40, 60, 110)])
    assert "Tokens by sample: FastV, 50 % of the tokens 40.0–110.0." in table.legend
    header, line = comma_separated(table).splitlines()
    values = dict(zip(header.split(","), line.split(","), strict=True))
    assert (values["tokens_least"], values["tokens_most"]) == ("40.0", "110.0")
