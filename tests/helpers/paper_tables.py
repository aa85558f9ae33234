"""Records of a small comparison, and the paper's table of records."""

from __future__ import annotations

import random

from from_bodies import configurations
from synthetic_records import accuracy

from harness.tables.paper import Style, paper_table


def paper(records, **style):
    groups, _ = configurations(records)
    return paper_table(groups, Style(**style))


def named(label, method="fastv", venue="ECCV 2024", **fields):
    made = accuracy(method, **fields)
    return {**made, "method": {**made["method"], "label": label, "venue": venue}}


def scores(seed, rate, items=300):
    drawn = random.Random(seed)
    return [float(drawn.random() < rate) for _ in range(items)]


RECORDS = [
    accuracy("unpruned", None, task="count", scores=scores(0, 0.9)),
    accuracy("unpruned", None, task="digits", scores=scores(1, 0.8)),
    *(
        accuracy(method, budget, task=task, scores=scores(hash_, rate))
        for hash_, (method, budget, task, rate) in enumerate(
            (method, budget, task, rate)
            for method, rate in (("fastv", 0.5), ("vitcop", 0.8), ("random", 0.52))
            for budget in (192, 64)
            for task in ("count", "digits")
        )
    ),
]
