"""The questions of a record and what was answered, as columns: each is made when first asked for.

Tables read hundreds of records of hundreds of questions, so that there is no object a question
where a column does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from harness.records.bodies import FirstTokenBody
from harness.records.grids import Grid, grids_of
from harness.records.selections import Selection

FirstToken = Mapping[int, float]
"""Log-probability of the most likely first tokens by their ids, best first."""


class Answer(NamedTuple):
    """`score` is None where a question has none of its own. `first_token` is empty in an outline,
    in a baseline, and where none was likely.
    """

    text: str
    score: float | None
    first_token: FirstToken


@dataclass(frozen=True, eq=False)
class Samples:
    """Of one record, in its order; `bodies` are whole samples or those of an outline."""

    bodies: Sequence[Mapping[str, Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.bodies)

    @cached_property
    def items(self) -> tuple[str, ...]:
        return tuple(sample["item"] for sample in self.bodies)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """What makes questions dependent."""
        return tuple(sample["image"] for sample in self.bodies)

    @cached_property
    def answers(self) -> tuple[str, ...]:
        return tuple(sample["answer"] for sample in self.bodies)

    @cached_property
    def targets(self) -> tuple[Any, ...]:
        return tuple(sample["target"] for sample in self.bodies)

    @cached_property
    def scores(self) -> tuple[float | None, ...]:
        """As the task gives them; None where a question has none of its own."""
        return tuple(sample["score"] for sample in self.bodies)

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Which row of the ledger each has."""
        return tuple(sample["ledger"] for sample in self.bodies)

    @cached_property
    def first_tokens(self) -> tuple[FirstToken, ...]:
        return tuple(first_token(sample.get("first_token", {})) for sample in self.bodies)

    @cached_property
    def selections(self) -> tuple[tuple[Selection, ...], ...]:
        """Of each, stage by stage; empty in an outline."""
        return tuple(
            tuple(map(Selection.of, sample.get("selections", ()))) for sample in self.bodies
        )

    def grids(self, place: int) -> tuple[Grid, ...]:
        """Of one of them, where its visual tokens lie; empty where that is not recorded."""
        return grids_of(self.bodies[place].get("grids", ()))

    @cached_property
    def by_item(self) -> dict[str, Answer]:
        columns = zip(self.answers, self.scores, self.first_tokens, strict=True)
        return {item: Answer(*row) for item, row in zip(self.items, columns, strict=True)}

    @cached_property
    def places(self) -> dict[str, int]:
        """The number of each item's sample."""
        return {item: place for place, item in enumerate(self.items)}

    @cached_property
    def cut(self) -> frozenset[int]:
        """Rows of the ledger of which a sample was cut; an outline leaves out selections, unless
        there were none.
        """
        return frozenset(s["ledger"] for s in self.bodies if s.get("selections", True))


def document_of(sample: Mapping[str, Any]) -> int:
    """lmms-eval's number of the document that a sample is about."""
    return int(str(sample["item"]).rpartition("/")[2])


def first_token(body: FirstTokenBody) -> FirstToken:
    """Without tokens that have no log-probability, as those of a baseline."""
    listed = zip(body.get("ids", ()), body.get("logprobs", ()), strict=True)
    return {i: logarithm for i, logarithm in listed if logarithm is not None}
