"""Closeness to the unpruned model's answers, from records alone."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from from_bodies import divergence, fidelity_of
from hypothesis import given
from hypothesis import strategies as st
from synthetic_records import accuracy

from harness.analysis.stats import mean_of
from harness.records.cell import Asked


def first_token(probabilities, listed):
    """What a record holds of a distribution: its `listed` most likely tokens."""
    ids = np.argsort(-np.asarray(probabilities), kind="stable")[:listed]
    return {"ids": ids.tolist(), "logprobs": [round(log(probabilities[i]), 4) for i in ids]}


def test_the_shares_of_equal_answers_and_of_flips():
    whole = accuracy("unpruned", None, scores=[1.0, 1.0, 0.0, 0.0])
    pruned = accuracy("fastv", scores=[1.0, 0.0, 1.0, 0.0])
    for sample, answer in zip(pruned["samples"], ("2", "3", "4", "5"), strict=True):
        sample["answer"] = answer
    found = fidelity_of([whole, pruned])[Asked("fastv", 64)]
    assert [mean_of(v) for v in map(found.get, ("same", "to_wrong", "to_right"))] == [25, 25, 25]
    assert mean_of(found["kl"]) == 0


def test_without_unpruned_there_is_nothing_to_compare_with():
    assert fidelity_of([accuracy("fastv")]) == {}


def test_seeds_are_averaged_question_by_question():
    whole = accuracy("unpruned", None, scores=[1.0] * 4)
    seeds = [accuracy("random", scores=[s] * 4, seed=n) for n, s in enumerate((1.0, 0.0))]
    found = fidelity_of([whole, *seeds])[Asked("random", 64)]
    assert mean_of(found["to_wrong"]) == 50


distributions = st.lists(st.floats(0.001, 1), min_size=6, max_size=6).map(
    lambda raw: [value / sum(raw) for value in raw]
)


@given(distributions, distributions, st.integers(1, 6))
def test_what_is_printed_never_exceeds_the_true_divergence(p, q, listed):
    true = sum(a * log(a / b) for a, b in zip(p, q, strict=True))
    found = divergence(first_token(p, listed), first_token(q, listed))
    assert 0 <= found <= true + 0.01  # the records' rounding


def test_with_every_token_listed_it_is_the_divergence():
    p, q = [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]
    found = divergence(first_token(p, 3), first_token(q, 3))
    assert 0.5 < found <= sum(a * log(a / b) for a, b in zip(p, q, strict=True)) + 1e-3


def test_tokens_that_one_record_does_not_list_count_together():
    p = {"ids": [1, 2], "logprobs": [log(0.6), log(0.3)]}
    q = {"ids": [1, 3], "logprobs": [log(0.2), log(0.7)]}
    assert divergence(p, q) == pytest.approx(0.6 * log(0.6 / 0.2) + 0.4 * log(0.4 / 0.8))
    nothing = {"ids": [8, 9], "logprobs": [log(0.5), log(0.4)]}
    assert divergence(p, nothing) == pytest.approx(0)
    assert exp(-divergence(p, p)) == pytest.approx(1)
