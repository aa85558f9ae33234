"""Scores as columns: pairing and averaging by item, whatever the order of the answers."""

from __future__ import annotations

import numpy as np

from harness.analysis.outcomes import Scores, averaged, differences


def scores(**by_item):
    return {"t": Scores.of([(item, f"of {item}", value) for item, value in by_item.items()])}


def as_dict(outcomes):
    held = outcomes["t"]
    assert held.values.dtype == np.float64
    assert held.images == tuple(f"of {item}" for item in held.items)
    return dict(zip(held.items, held.values.tolist(), strict=True))


def test_differences_are_paired_by_item_in_any_order():
    ours, theirs = scores(a=1, b=2, c=3), scores(c=1, a=5, d=9)
    assert as_dict(differences(ours, theirs)) == {"a": -4, "c": 2}
    assert as_dict(differences(ours, scores(a=1, b=1, c=1))) == {"a": 0, "b": 1, "c": 2}


def test_a_task_without_common_items_has_no_difference():
    assert differences(scores(a=1), scores(b=1)) == {}
    assert differences(scores(a=1), {"u": scores(a=1)["t"]}) == {}


def test_the_average_is_over_the_runs_that_answered():
    assert as_dict(averaged([scores(a=1, b=2), scores(a=3, b=6)])) == {"a": 2, "b": 4}
    assert as_dict(averaged([scores(a=1, b=2), scores(b=6, c=5)])) == {"a": 1, "b": 4, "c": 5}
    assert averaged([]) == {}


def test_scaling_leaves_the_questions_alone():
    once = scores(a=1, b=2)["t"]
    assert as_dict({"t": once.scaled(10)}) == {"a": 10, "b": 20}
    assert as_dict({"t": once}) == {"a": 1, "b": 2}
