"""The model as it is: the upper bound of accuracy, and the cost that methods save from."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from methods.interface import Budget, Method, Plan, Sizes
from methods.registry import register


@register("unpruned")
@dataclass(frozen=True)
class Unpruned(Method):
    """Every visual token enters every layer, whatever the budget."""

    label: ClassVar[str] = "Unpruned"
    cuts: ClassVar[str] = "nowhere"

    def plan(self, budget: Budget, sizes: Sizes) -> Plan:
        return self.solve(Fraction(sizes.tokens), sizes)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        return Plan(entering=(sizes.tokens,) * sizes.layers)
