"""A layer whose MLP works on fewer rows than its attention gave: the sum of the two.

A layer adds its MLP's result to all rows that its attention gave. Where rows leave between the two,
that sum is formed here instead.
"""

from __future__ import annotations

from torch import Tensor


class ShorterMlp:
    """Of the layer at work; `left` are the rows that its MLP works on, where they are fewer."""

    def __init__(self) -> None:
        self.left: Tensor | None = None

    def enter(self, states: Tensor, left: Tensor) -> Tensor:
        """Take in what is `left` of the states that attention gave; returns it."""
        self.left = None if left is states else left
        return left

    def leave_mlp(self, output: Tensor) -> Tensor:
        """The MLP's result; nothing where rows left before it: `leave_layer` has the sum then."""
        if self.left is None:
            return output
        self.left = self.left + output
        return output.new_zeros(1)

    def leave_layer(self, output: Tensor) -> Tensor:
        """What leaves the layer, of which the layer itself makes `output`."""
        left, self.left = self.left, None
        return output if left is None else left
