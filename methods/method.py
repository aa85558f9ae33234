"""A method: a budget and integer sizes in, a plan out."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, ClassVar

from methods.errors import CAUGHT, InfeasibleBudgetError, PruningError, told
from methods.plan import Plan, plan_fault
from methods.reads import AnyRead
from methods.sizes import Budget, Sizes


@dataclass(frozen=True)
class Method(ABC):
    """Base of all methods; fields of a subclass are its settings.

    A subclass gives `label` (the paper's spelling), `venue`, `link`, `cuts` (where it cuts, in
    words), `tower_reads` (all that its encoder stages read), `crops` (whether these are defined for
    an image that the tower sees in crops), `merged_reads` (what they read of a tower that shows
    tokens, and not its rows, where they are defined for one), `inside_tower` (whether it has stages
    between the tower's layers), `inside_layers` (whether it has stages before a decoder layer's
    MLP), `resizes` (whether it asks for smaller pictures instead of cutting
    anything), `of_video` (whether it is made for videos), `fewest_frames` (how many it has to be
    given) and `solve`.
    """

    name: ClassVar[str] = ""
    label: ClassVar[str]
    venue: ClassVar[str] = ""
    link: ClassVar[str] = ""
    cuts: ClassVar[str] = ""
    inside_tower: ClassVar[bool] = False
    inside_layers: ClassVar[bool] = False
    resizes: ClassVar[bool] = False
    crops: ClassVar[bool] = False
    merged_reads: ClassVar[tuple[AnyRead, ...]] = ()
    of_video: ClassVar[bool] = False
    fewest_frames: ClassVar[int] = 1

    @property
    def tower_reads(self) -> tuple[AnyRead, ...]:
        return ()

    def settings(self) -> dict[str, Any]:
        """By which records tell it apart: all settings, a file's content in the place of its name.

        Raises PruningError where a setting names what is not there.
        """
        return asdict(self)

    @abstractmethod
    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        """The plan nearest to `budget` < sizes.tokens, or None where the budget is infeasible."""

    def plan(self, budget: Budget, sizes: Sizes) -> Plan:
        """The plan for one sample; one with no more visual tokens than the budget stays whole.

        Raises InfeasibleBudgetError with the feasible range, and PruningError if `solve` raises
        anything but MemoryError, or gives what is no plan.
        """
        tokens = budget.of(sizes.tokens)
        if tokens >= sizes.tokens:
            return Plan(entering=(sizes.tokens,) * sizes.layers)
        plan = self._solved(tokens, sizes)
        if plan is None:
            low, high = self.feasible(sizes)
            raise InfeasibleBudgetError(self.label, float(tokens), low, high)
        return plan

    def _solved(self, tokens: Fraction, sizes: Sizes) -> Plan | None:
        own = f"{origin(type(self))}.solve for {float(tokens):g} of {sizes.tokens} tokens"
        try:
            plan = self.solve(tokens, sizes)
            fault = None if plan is None else plan_fault(plan, sizes)
        except (PruningError, MemoryError):
            raise
        except CAUGHT as error:
            raise PruningError(f"{own} raises {told(error)}") from error
        if fault is not None:
            raise PruningError(f"{own} gives no plan: {fault}")
        return plan

    def feasible(self, sizes: Sizes) -> tuple[int | None, int | None]:
        """Smallest and largest whole budget that can be met by cutting; all between them can.

        The sample's own token count is given as the largest where all budgets below it can be met.
        """

        def met(tokens: int) -> bool:
            return self._solved(Fraction(tokens), sizes) is not None

        last = sizes.tokens - 1
        inside = next(filter(met, (*range(1, last, max(last // 64, 1)), last)), None)
        if inside is None:
            return None, None
        low = bisect_left(range(inside), True, lo=1, key=met)
        high = bisect_left(range(last + 1), True, lo=inside, key=lambda b: not met(b)) - 1
        return low, high + (high == last)


def origin(method: type[Method]) -> str:
    """The class, with its file if it is from one."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    return f"{file}: {method.__qualname__}" if file else method.__qualname__
