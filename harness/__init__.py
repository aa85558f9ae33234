"""Runs pruning methods on tasks, records what really happened, and makes tables from records.

from harness import compare, load, tables

records = compare(methods="vitcop,fastv", limit=20)
print(tables.text(records))
frame = load("results/local")  # a row a question; load_timings: a row a round
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import tables
    from harness.analysis.frames import load, load_timings
    from harness.cli.notebook import compare
    from harness.errors import BadInput
    from harness.records.cell import Cell
    from harness.records.record import Record

__all__ = ["BadInput", "Cell", "Record", "compare", "load", "load_timings", "tables"]

_FROM = {
    "BadInput": "errors",
    "Cell": "records.cell",
    "compare": "cli.notebook",
    "Record": "records.record",
    "load": "analysis.frames",
    "load_timings": "analysis.frames",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for: the command line starts without pandas."""
    if name == "tables":
        return import_module(f"{__name__}.tables")
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
