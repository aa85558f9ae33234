"""What the benchmark can tell, from records."""

from __future__ import annotations

import json

import pytest
from from_bodies import made
from synthetic_records import accuracy

from harness.embedded import benchmark
from harness.models.load import resolve
from harness.tables import yardsticks
from harness.tables.table import markdown


def record(method, budget, seed, score):
    """Records of all tasks' questions, each with the score that `score` gives its number."""
    bodies = [
        accuracy(method, budget, task, [score(i) for i in range(30)], seed)
        for task in benchmark.TASKS
    ]
    for body in bodies:
        for i, sample in enumerate(body["samples"]):
            sample["image"] = f"image{i // 2}"
    return made(bodies)


RECORDS = [
    *record("unpruned", None, 0, lambda i: 1.0),
    *(r for seed in range(3) for r in record("random", 64, seed, lambda i: float(i % 3 == 0))),
]


def test_yardsticks_are_shares_with_intervals(monkeypatch):
    monkeypatch.setattr(yardsticks, "_without_image", lambda _: {})
    measured = yardsticks.measure(RECORDS)["percent"]
    assert measured["Majority answer"]["embedded_existence"] == [50.0]
    assert measured["Unpruned"]["embedded_count"] == [100.0, 100.0, 100.0]
    value, low, high = measured["Random (3 seeds) at 64"]["embedded_digits"]
    assert value == pytest.approx(33.33, abs=0.01)
    assert low < value < high


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
