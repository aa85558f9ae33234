"""How close a pruned model's answers are to the unpruned model's, item by item.

Every quantity is an outcome an item, so that means and intervals are made as those of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from operator import gt, lt
from typing import Any

from harness.analysis.outcomes import Outcomes, Scores, averaged
from harness.records.cell import Cell
from harness.records.file import Record

Sample = Mapping[str, Any]
Key = tuple[str, int | None]
About = tuple[str, str]  # task, item

ROUNDING = 1e-4
"""Probability below which what is left beside the listed tokens is only their rounding."""

HOW_TO_READ = (
    "Fidelity, to the unpruned model on the same questions: Same, equal answers; To wrong and To "
    "right, questions whose score fell and rose; KL, divergence of the first answer token's "
    "distribution in nats, a lower bound of it: over the tokens that both records list, all "
    "others as one."
)


@dataclass(frozen=True)
class Fidelity:
    """The first three are 0 or 100, for percent; `kl` in nats."""

    same: Outcomes
    to_wrong: Outcomes
    to_right: Outcomes
    kl: Outcomes


def fidelity_of(records: Sequence[Record]) -> dict[Key, Fidelity]:
    """By method and budget, of whole records of one configuration; empty without unpruned.

    Seeds of a method are averaged question by question.
    """
    done = [record for record in records if record["status"] == "ok"]
    upper = {key: s for r in done if r["identity"]["budget"] is None for key, s in _samples(r)}
    groups: dict[Key, dict[int, list[Record]]] = {}
    for record in done:
        cell = Cell.parse(record["cell"])
        if cell.budget is not None:
            seeds = groups.setdefault((cell.method.text, cell.budget), {})
            seeds.setdefault(cell.seed, []).append(record)
    return (
        {key: _fidelity(list(seeds.values()), upper) for key, seeds in groups.items()}
        if upper
        else {}
    )


def _samples(record: Record) -> list[tuple[About, Sample]]:
    task = record["identity"]["task"]
    return [((task, str(sample["item"])), sample) for sample in record["samples"]]


def _fidelity(by_seed: Sequence[Sequence[Record]], upper: Mapping[About, Sample]) -> Fidelity:
    def outcomes(value: Callable[[Sample, Sample], float | None]) -> Outcomes:
        return averaged([_outcomes(records, upper, value) for records in by_seed])

    return Fidelity(
        outcomes(lambda ours, theirs: 100.0 * (ours["answer"] == theirs["answer"])),
        outcomes(lambda ours, theirs: _share(ours, theirs, lt)),
        outcomes(lambda ours, theirs: _share(ours, theirs, gt)),
        outcomes(lambda ours, theirs: divergence(theirs["first_token"], ours["first_token"])),
    )


def _share(ours: Sample, theirs: Sample, compare: Callable[[float, float], bool]) -> float | None:
    """Of 100; None for questions that have no score of their own."""
    if ours["score"] is None or theirs["score"] is None:
        return None
    return 100.0 * compare(ours["score"], theirs["score"])


def _outcomes(
    records: Sequence[Record],
    upper: Mapping[About, Sample],
    value: Callable[[Sample, Sample], float | None],
) -> Outcomes:
    """`value` of each sample and unpruned's answer to the same question, where there is one."""
    found = {}
    for record in records:
        pairs = [(sample, upper[key]) for key, sample in _samples(record) if key in upper]
        rows = [
            (str(sample["item"]), str(sample["image"]), found_value)
            for sample, theirs in pairs
            if (found_value := value(sample, theirs)) is not None
        ]
        if rows:
            found[record["identity"]["task"]] = Scores.of(rows)
    return found


def divergence(whole: Mapping[str, Sequence], pruned: Mapping[str, Sequence]) -> float | None:
    """KL(whole || pruned) in nats of two records' first tokens: `ids` and `logprobs`.

    None where one of them has no log-probabilities, as those of a baseline have not.

    Only the most likely tokens are recorded. Those that both list count by themselves, all others
    as one: merging outcomes can only lower the divergence, so this is a lower bound of it.
    """
    p, q = (_probabilities(token) for token in (whole, pruned))
    if not (p and q):
        return None
    pairs = [(p[token], q[token]) for token in p if token in q]
    rest = tuple(1 - sum(column) for column in zip(*pairs, strict=True)) if pairs else (1.0, 1.0)
    if min(rest) > ROUNDING or not pairs:
        pairs.append((rest[0], rest[1]))
    else:  # joined to the last listed token, which keeps the bound
        last = pairs.pop()
        pairs.append((max(last[0] + rest[0], 0.0), max(last[1] + rest[1], 1e-12)))
    return max(sum(a * log(a / b) for a, b in pairs if a > 0), 0.0)


def _probabilities(first_token: Mapping[str, Sequence]) -> dict[int, float]:
    """Above 0 even where a float has no such small number."""
    listed = zip(first_token.get("ids", ()), first_token.get("logprobs", ()), strict=True)
    return {i: max(exp(logarithm), 1e-300) for i, logarithm in listed if logarithm is not None}
