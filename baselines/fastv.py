"""FastV: half the image tokens after layer 2. https://arxiv.org/abs/2403.06764 (ECCV 2024)

The first K layers see everything. The last prompt token's attention in layer K−1, averaged over
heads, ranks the visual tokens; before layer K only the r best stay, at their own positions.

B tokens a layer on average: r = (L·B − K·N) / (L − K). Published K = 2 of 32 layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    Plan,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.planning import SCHEDULES, half_up, layers_of, one_of
from methods.registry import register
from methods.tensors import best_in_order


@register("fastv")
@dataclass(frozen=True)
class FastV(Method):
    """`layer` is K; `schedule="published"` leaves it at 2 at every depth."""

    label: ClassVar[str] = "FastV"
    venue: ClassVar[str] = "ECCV 2024"
    link: ClassVar[str] = "https://arxiv.org/abs/2403.06764"
    cuts: ClassVar[str] = "before layer 2"

    schedule: str = "matched"
    layer: int | None = None

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        (k,) = layers_of(self.name, self.schedule, (2,), (self.layer,), sizes.layers)
        tokens = (sizes.layers * budget - k * sizes.tokens) / (sizes.layers - k)
        if tokens < 1:
            return None
        r = half_up(tokens)
        return Plan(
            entering=(sizes.tokens,) * k + (r,) * (sizes.layers - k),
            decoder=(DecoderStage("rank", k, (Read.LAST_ATTENTION,), partial(_rank, tokens=r)),),
            parameters={"layers": (k,), "tokens": (r,)},
        )


def _rank(view: View, tokens: int) -> Selection:
    return Selection(Cut(best_in_order(view[Read.LAST_ATTENTION].mean(1), tokens)))
