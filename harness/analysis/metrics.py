"""Metrics over answers: how close a pruned model's answer is to the unpruned model's.

To add one is to write one function here, or anywhere, under `metric`: tables, the page and frames
show all that are registered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from typing import Literal

from harness.records.samples import Answer, FirstToken

ROUNDING = 1e-4
"""Probability below which what is left beside the listed tokens is only their rounding."""

Compare = Callable[[Answer, Answer], float | None]
"""Of a pruned model's answer and unpruned's to the same question; None where it says nothing."""


@dataclass(frozen=True)
class Metric:
    """`name`: of its columns in CSV and in frames; `title` and `unit`: of those that are shown;
    `better`: which way; `meaning`: what the line below a table says of it.
    """

    name: str
    title: str
    unit: str
    better: Literal["more", "less"]
    meaning: str
    decimals: int
    of: Compare

    @property
    def heading(self) -> str:
        return f"{self.title} {self.unit}".strip()


METRICS: dict[str, Metric] = {}
"""By name, in the order in which they are shown."""


def metric(
    name: str,
    title: str,
    unit: str,
    *,
    better: Literal["more", "less"],
    meaning: str,
    decimals: int = 1,
) -> Callable[[Compare], Compare]:
    """Registers a function as a `Metric`. Raises ValueError for a name that is taken."""

    def register(of: Compare) -> Compare:
        if name in METRICS:
            raise ValueError(f"there is a metric {name!r} already")
        METRICS[name] = Metric(name, title, unit, better, meaning, decimals, of)
        return of

    return register


def how_to_read() -> str:
    """The line below a table."""
    arrows = {"more": "↑", "less": "↓"}
    found = (f"{m.title} {arrows[m.better]}, {m.meaning}" for m in METRICS.values())
    return f"Fidelity, to the unpruned model on the same questions: {'; '.join(found)}."


@metric("same", "Same", "%", better="more", meaning="equal answers")
def same(ours: Answer, theirs: Answer) -> float:
    return 100.0 * (ours.text == theirs.text)


@metric("to_wrong", "To wrong", "%", better="less", meaning="questions whose score fell")
def to_wrong(ours: Answer, theirs: Answer) -> float | None:
    if ours.score is None or theirs.score is None:
        return None
    return 100.0 * (ours.score < theirs.score)


@metric("to_right", "To right", "%", better="more", meaning="questions whose score rose")
def to_right(ours: Answer, theirs: Answer) -> float | None:
    return to_wrong(theirs, ours)


@metric(
    "kl",
    "KL",
    "",
    better="less",
    meaning=(
        "divergence of the first answer token's distribution in nats, a lower bound of it: over "
        "the tokens that both records list, all others as one"
    ),
    decimals=3,
)
def first_token_divergence(ours: Answer, theirs: Answer) -> float | None:
    return divergence(theirs.first_token, ours.first_token)


def divergence(whole: FirstToken, pruned: FirstToken) -> float | None:
    """KL(whole || pruned) in nats of two records' first tokens.

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


def _probabilities(first_token: FirstToken) -> dict[int, float]:
    """Above 0 even where a float has no such small number."""
    return {i: max(exp(logarithm), 1e-300) for i, logarithm in first_token.items()}
