"""At which position the tokens that are generated stand, in each run of layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from methods.groups import Group
from methods.plan import NewTokens
from methods.sequence import Run


class NewPositions:
    """`prompt_end` int64 [B]: the position after the prompt, by each sample's plan."""

    def __init__(self, run: Run, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.prompt_end = torch.where(run.valid, run.positions, -1).amax(1) + 1

    def _with(self, rule: NewTokens) -> list[Group]:
        return [group for group in self.groups if group.plan.new_tokens is rule]

    @property
    def differ(self) -> bool:
        """Whether layers may have the same token at different positions."""
        return bool(self._with(NewTokens.CACHE))

    def enter(self, run: Run) -> None:
        """Take in what enters layer 0."""
        entered = run.valid.sum(1)
        for group in self._with(NewTokens.ENTERED):
            self.prompt_end[group.at] = entered[group.at]

    def place(self, run: Run) -> None:
        """Say where the first new token stands in the layers of a run."""
        run.next_position = self.prompt_end.to(run.valid.device, copy=True)
        for group in self._with(NewTokens.CACHE):
            first = torch.where(run.valid, run.positions, run.positions.amax()).amin(1)
            run.next_position[group.at] = (first + run.valid.sum(1))[group.at]
