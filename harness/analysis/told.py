"""A finished record in a few words, for those who wait for the next."""

from __future__ import annotations

from harness.analysis.task_scores import columns_of
from harness.records.record import AccuracyRecord, EfficiencyRecord, Record


def told(record: Record) -> str:
    """`75.0 % of 300 questions`, `10 rounds over 7 cells`, or why a cell failed."""
    results = [record] if isinstance(record, AccuracyRecord) else record.cells
    failed = [result.reason for result in results if result.status == "failed"]
    if failed:
        return f"FAILED: {failed[0]}"
    if isinstance(record, AccuracyRecord) and record.status == "infeasible":
        return record.reason or "infeasible"
    return _answered(record) if isinstance(record, AccuracyRecord) else _timed(record)


def _timed(record: EfficiencyRecord) -> str:
    cells = [cell for cell in record.cells if cell.status != "infeasible"]
    return f"{record.identity.repeats} rounds over {len(cells)} cells"


def _answered(record: AccuracyRecord) -> str:
    (column,) = [column for column in columns_of([record]) if column.first]
    mean = float(column.scores(record).values.mean())
    unit = f" {column.unit}" if column.unit else ""
    return f"{mean:.1f}{unit} of {len(record.samples)} questions"
