"""Control: a random sample of the visual tokens, drawn before layer 0.

A method that is no better than this has found nothing. B tokens in every layer, at their own
positions; the sample depends on (seed, item) alone, not on batch, device or dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch

from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    Plan,
    PruningError,
    Selection,
    Sizes,
    View,
)
from methods.planning import half_up
from methods.registry import register


@register("random")
@dataclass(frozen=True)
class Random(Method):
    """`seed` picks one of many samples of each item."""

    label: ClassVar[str] = "Random"
    cuts: ClassVar[str] = "before layer 0"

    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise PruningError(f"random: seed is from 0 to {2**31 - 1}, not {self.seed}")

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        tokens = max(half_up(budget), 1)
        draw = partial(_draw, seed=self.seed, tokens=tokens)
        return Plan(
            entering=(tokens,) * sizes.layers,
            decoder=(DecoderStage("draw", 0, (), draw),),
            parameters={"layers": (0,), "tokens": (tokens,)},
        )


def _draw(view: View, seed: int, tokens: int) -> Selection:
    rows = []
    for item in view.seeds:
        generator = torch.Generator().manual_seed((seed << 32) + item % 2**32)
        rows.append(torch.randperm(view.count, generator=generator)[:tokens].sort().values)
    return Selection(Cut(torch.stack(rows).to(view.segments.device, non_blocking=True)))
