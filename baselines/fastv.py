"""FastV: half the image tokens after layer 2. https://arxiv.org/abs/2403.06764 (ECCV 2024)

The first K layers see everything. The last prompt token's attention in layer K−1, averaged over
heads, ranks the visual tokens; before layer K only the r best stay, at their own positions.

B tokens a layer on average: r = (L·B − K·N) / (L − K). Published K = 2 of 32 layers.

`rope=false` is the criterion that FEATHER (https://arxiv.org/abs/2412.13180) found to serve better:
q·k before RoPE, so that a token's rank owes nothing to its place. As in FEATHER's code the softmax
is over visual tokens only.
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
from methods.tensors import attention_without_rope, best_in_order

UNROTATED = (Read.UNROTATED_QUERY, Read.UNROTATED_KEYS)


@register("fastv")
@dataclass(frozen=True)
class FastV(Method):
    """`layer` is K; `schedule="published"` leaves it at 2 at every depth.

    `rope=False` ranks by attention without position embeddings.
    """

    label: ClassVar[str] = "FastV"
    venue: ClassVar[str] = "ECCV 2024"
    link: ClassVar[str] = "https://arxiv.org/abs/2403.06764"
    cuts: ClassVar[str] = "before layer 2"

    schedule: str = "matched"
    layer: int | None = None
    rope: bool = True

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        (k,) = layers_of(self.name, self.schedule, (2,), (self.layer,), sizes.layers)
        tokens = (sizes.layers * budget - k * sizes.tokens) / (sizes.layers - k)
        if tokens < 1:
            return None
        r = half_up(tokens)
        reads, rank = ((Read.LAST_ATTENTION,), _rank) if self.rope else (UNROTATED, _rank_unrotated)
        return Plan(
            entering=(sizes.tokens,) * k + (r,) * (sizes.layers - k),
            decoder=(DecoderStage("rank", k, reads, partial(rank, tokens=r)),),
            parameters={"layers": (k,), "tokens": (r,)},
        )


def _rank(view: View, tokens: int) -> Selection:
    return Selection(Cut(best_in_order(view[Read.LAST_ATTENTION].mean(1), tokens)))


def _rank_unrotated(view: View, tokens: int) -> Selection:
    scores = attention_without_rope(*(view[read] for read in UNROTATED))
    return Selection(Cut(best_in_order(scores, tokens)))
