"""What the benchmark can tell, from records."""

from __future__ import annotations

import json

import pytest

from harness.embedded import benchmark
from harness.models.load import resolve
from harness.tables import yardsticks
from harness.tables.table import markdown


def record(method, budget, seed, score):
    """A record of all tasks' questions, each with the score that `score` gives its number."""
    return [
        {
            "kind": "accuracy",
            "status": "ok",
            "cell": method + (f"@{budget}" if budget else "") + (f"#{seed}" if seed else ""),
            "method": {"label": method.title()},
            "identity": {
                **{"method": method, "budget": budget, "seed": seed, "settings": {}},
                **{"task": task, "limit": 30, "model_digest": "d" * 12, "dtype": "float32"},
            },
            "provenance": {"commit": "c" * 12},
            "ledger": [],
            "shape": {},
            "samples": [
                {"item": i, "image": i // 2, "score": score(i), "ledger": 0} for i in range(30)
            ],
        }
        for task in benchmark.TASKS
    ]


RECORDS = [
    *record("unpruned", None, 0, lambda i: 1.0),
    *(r for seed in range(3) for r in record("random", 64, seed, lambda i: float(i % 3 == 0))),
]


@pytest.fixture
def _counts_hold(monkeypatch):
    monkeypatch.setattr("harness.records.ledger.broken_promise", lambda *_: None)
    for name in ("mean_entering", "mean_prefill_flops", "mean_cache_bytes"):
        monkeypatch.setattr(f"harness.analysis.rows.{name}", lambda *_: 1.0)


@pytest.mark.usefixtures("_counts_hold")
def test_yardsticks_are_shares_with_intervals(monkeypatch):
    monkeypatch.setattr(yardsticks, "_without_image", dict)
    measured = yardsticks.measure(RECORDS)["percent"]
    assert measured["Majority answer"]["embedded_existence"] == [50.0]
    assert measured["Unpruned"]["embedded_count"] == [100.0, 100.0, 100.0]
    value, low, high = measured["Random (3 seeds) at 64"]["embedded_digits"]
    assert value == pytest.approx(33.33, abs=0.01)
    assert low < value < high


@pytest.mark.usefixtures("_counts_hold")
def test_separation_says_who_leads_and_where_methods_differ():
    good = record("vitcop", 64, 0, lambda i: float(i % 10 != 0))
    same = record("fastv", 64, 0, lambda i: float(i % 10 != 0))
    text = yardsticks.separation([*RECORDS, *good, *same], 64)
    assert "leads Random (3 seeds) by 56.7 points" in text
    assert "Of 1 pairs of methods differ at p < 0.05: existence 0" in text
    worse = record("fastv", 64, 0, lambda i: 0.0)
    assert "existence 1" in yardsticks.separation([*RECORDS, *good, *worse], 64)


def test_the_printed_yardsticks_are_of_the_shipped_weights():
    measured = json.loads(yardsticks.FILE.read_text())
    assert measured["model_digest"] == resolve("embedded").digest()
    assert "| Majority answer | 50.0 | 18.3 |" in markdown(yardsticks.table())


def test_without_its_image_a_question_earns_what_the_majority_answer_does():
    percent = json.loads(yardsticks.FILE.read_text())["percent"]
    for task in benchmark.TASKS:
        majority = percent["Majority answer"][task][0]
        assert percent["Without the image"][task][0] == pytest.approx(majority, abs=5)
