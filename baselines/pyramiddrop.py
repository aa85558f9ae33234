"""PyramidDrop: fewer tokens the deeper. https://arxiv.org/abs/2410.17247 (CVPR 2025)

Before layers 8, 16 and 24 of 32 the last prompt token's attention ranks the visual tokens; a share
λ of them stays each time, so that N, λN, λ²N and λ³N tokens see a quarter of the layers each. The
attention is that of the layer about to run: its own norm, q and k on the states that enter it.

Published λ = 0.5 (`schedule="published"`). Its settings for 192, 128 and 64 tokens never were, and
layers 8/16/24 cannot average below N/4. Ours: λ is solved for the budget; below 15/32·N, where λ
would be under 0.5, the layers first shrink together, the first cut no earlier than layer 2.
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
    NewTokens,
    Plan,
    Positions,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.planning import SCHEDULES, half_up, layers_of, nearest_count, one_of
from methods.registry import register
from methods.tensors import best_in_order

LAYERS = (8, 16, 24)
HALF = Fraction(1, 2)


def pyramid(tokens: int, layers: tuple[int, ...], depth: int, ratio: Fraction) -> tuple[int, ...]:
    """Visual tokens entering each layer: N·λ^j rounded, at least 1, after the j-th cut."""
    counts = [max(half_up(tokens * ratio**j), 1) for j in range(len(layers) + 1)]
    ends = (*layers, depth)
    starts = (0, *layers)
    return tuple(
        count
        for count, start, end in zip(counts, starts, ends, strict=True)
        for _ in range(end - start)
    )


@register("pyramiddrop")
@dataclass(frozen=True)
class PyramidDrop(Method):
    label: ClassVar[str] = "PyramidDrop"
    venue: ClassVar[str] = "CVPR 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2410.17247"
    cuts: ClassVar[str] = "before layers 8, 16 and 24, earlier for small budgets"

    schedule: str = "matched"

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        depth, total = sizes.layers, sizes.layers * budget
        layers = layers_of(self.name, self.schedule, LAYERS, (None,) * 3, depth)
        if self.schedule == "published":
            return self._plan(sizes, layers, HALF)
        at_half = Fraction(sum(pyramid(sizes.tokens, layers, depth, HALF)))
        if total < at_half:
            layers = _shrunk(layers, total / sizes.tokens, depth)
        if layers[-1] >= depth or total < layers[0] * sizes.tokens + depth - layers[0]:
            return None
        ratio = nearest_count(
            lambda r: sum(pyramid(sizes.tokens, layers, depth, r)), total, Fraction(0), Fraction(1)
        )
        return self._plan(sizes, layers, ratio)

    def _plan(self, sizes: Sizes, layers: tuple[int, ...], ratio: Fraction) -> Plan:
        entering = pyramid(sizes.tokens, layers, sizes.layers, ratio)
        return Plan(
            entering=entering,
            decoder=tuple(
                DecoderStage(
                    f"drop{j}",
                    layer,
                    (Read.NEXT_LAST_ATTENTION,),
                    partial(_rank, tokens=entering[layer]),
                    Positions.CONTIGUOUS,
                )
                for j, layer in enumerate(layers, 1)
            ),
            new_tokens=NewTokens.CACHE,
            parameters={
                "layers": layers,
                "ratio": float(ratio),
                "tokens": tuple(entering[layer] for layer in layers),
            },
        )


def _shrunk(layers: tuple[int, ...], wanted: Fraction, depth: int) -> tuple[int, ...]:
    """Layers t·(8, 16, 24), t such that λ = 0.5 gives `wanted` · N tokens summed over layers."""
    first, second, third = layers
    gained = first * HALF + second * HALF**2 + third * HALF**3
    t = max((wanted - depth * HALF**3) / gained, Fraction(2, first))
    shrunk = [half_up(t * layer) for layer in layers]
    return tuple(max(layer, 2 + j) for j, layer in enumerate(shrunk))


def _rank(view: View, tokens: int) -> Selection:
    return Selection(Cut(best_in_order(view[Read.NEXT_LAST_ATTENTION].mean(1), tokens)))
