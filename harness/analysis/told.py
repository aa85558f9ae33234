"""A finished record in a few words, for those who wait for the next."""

from __future__ import annotations

from harness.analysis.task_scores import columns_of
from harness.records.file import Record
from harness.records.ledger import judged


def told(record: Record) -> str:
    """`75.0 % of 300 questions`, `10 rounds over 7 cells`, or why a cell failed."""
    known = judged(record)
    cells = known["cells"] if known["kind"] == "efficiency" else [known]
    failed = [cell["reason"] for cell in cells if cell["status"] == "failed"]
    if failed:
        return f"FAILED: {failed[0]}"
    return _timed(known) if known["kind"] == "efficiency" else _answered(known)


def _timed(record: Record) -> str:
    cells = [cell for cell in record["cells"] if cell["status"] != "infeasible"]
    return f"{record['identity']['repeats']} rounds over {len(cells)} cells"


def _answered(record: Record) -> str:
    (column,) = [column for column in columns_of([record]) if column.first]
    mean = float(column.scores(record).values.mean())
    unit = f" {column.unit}" if column.unit else ""
    return f"{mean:.1f}{unit} of {len(record['samples'])} questions"
