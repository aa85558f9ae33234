"""Records of a small comparison, and faults that change one cell of it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from from_bodies import record_findings
from synthetic_records import accuracy

from harness.regress.findings import Verdict
from harness.regress.records import Limits


def answered(scores: list[float] | None = None, **changes: Any) -> list[dict[str, Any]]:
    """Unpruned and FastV on two tasks."""
    scores = scores or [1.0, 0.0] * 10
    return [
        accuracy(method, budget, task, scores, **changes)
        for method, budget in (("unpruned", None), ("fastv", 64))
        for task in ("count", "digits")
    ]


def altered(change, before=None) -> list[dict[str, Any]]:
    """Records of which FastV's on `count` were changed."""
    after = deepcopy(before or answered())
    change(next(r for r in after if r["cell"] == "fastv@64"))
    return after


def worse(before, after, limits=Limits()) -> set[tuple[str, str]]:  # noqa: B008 - frozen
    findings = record_findings(before, after, limits)
    return {(f.cell, f.quantity) for f in findings if f.verdict is Verdict.WORSE}


def one_token_too_many(record):
    for column in ("entering", "planned", "cached"):
        record["ledger"][0][column][2] += 1


def one_more_kv_row(record):
    record["ledger"][0]["cached"][3] += 1


def another_parameter(record):
    record["parameters"] = {"layers": [3]}


def another_selection(record):
    record["samples"][4]["selections"] = [{**record["samples"][4]["selections"][0], "kept": "fe"}]


def another_answer(record):
    record["samples"][7]["answer"] = "3"
