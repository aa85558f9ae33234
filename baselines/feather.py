"""FEATHER: rank without RoPE, keep a grid as well. https://arxiv.org/abs/2412.13180 (ICCV 2025)

RoPE makes early layers' attention favour the lowest part of an image, so the last prompt token's
attention is taken from q and k before it, with a softmax over visual tokens only. Before layer 8 of
32 the best of these stay, and with them every third token of every third row; before layer 16 the
best of what is left. All stay at their own positions.

The code takes the union of the grid and the best int(ρN), ρ = 1 − 0.7, so that its count depends on
the image. Ours, for exact counts: the grid's S tokens and the m best others, by default as many as
fall off the grid on average, half_up(int(ρN)·(1 − S/N)), then int(ρ²(S + m)); this at layers 8 and
16 is `schedule="published"`. For other budgets (the paper has none) the layers shrink together to
round(8t) and round(16t), the largest t ≤ 1 that stays within the budget, and m grows to meet it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil, inf
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    Plan,
    PruningError,
    Read,
    Segment,
    Selection,
    Sizes,
    View,
)
from methods.planning import SCHEDULES, half_up, layers_of, one_of
from methods.registry import register
from methods.tensors import attention_without_rope, best_in_order

LAYERS = (8, 16)
STRIDE = 3
READS = (Read.UNROTATED_QUERY, Read.UNROTATED_KEYS)


def shrunk(layers: tuple[int, ...]) -> list[tuple[int, int]]:
    """The two layers and all that they shrink to together, deepest first, each at least 1."""
    first, second = layers
    turns = [Fraction(2 * k + 1, 2 * layer) for layer in layers for k in range(layer)]
    pairs = [
        (max(half_up(t * first), 1), half_up(t * second)) for t in sorted({*turns, Fraction(1)})
    ]
    return [pair for pair in reversed(pairs) if pair[0] < pair[1]]


@register("feather")
@dataclass(frozen=True)
class Feather(Method):
    """`dropped` is 1 − ρ, the share that the first cut's ranking leaves out."""

    label: ClassVar[str] = "FEATHER"
    venue: ClassVar[str] = "ICCV 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2412.13180"
    cuts: ClassVar[str] = "before layers 8 and 16, earlier for small budgets"

    schedule: str = "matched"
    dropped: float = 0.7

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)
        if not 0 < self.dropped < 1:
            raise PruningError(f"{self.name}: dropped lies between 0 and 1, not {self.dropped:g}")

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        total, grid = sizes.layers * budget, sum(map(_on_grid, sizes.segments))
        deepest = layers_of(self.name, self.schedule, LAYERS, (None, None), sizes.layers)
        off_grid = 1 - Fraction(grid, sizes.tokens)
        default = half_up(int(sizes.tokens * (1 - self.dropped)) * off_grid)
        if self.schedule == "published":
            return self._plan(sizes, deepest, grid, default)
        for layers in shrunk(deepest):
            plans = partial(self._plan, sizes, layers, grid)
            if sum(plans(default).entering) <= total:
                others = _nearest(plans, total, default, sizes.tokens - grid)
                return plans(others) if abs(plans(others).mean_entering - budget) <= 1 else None
        return None

    def _plan(self, sizes: Sizes, layers: tuple[int, ...], grid: int, others: int) -> Plan:
        (first, second), ratio = layers, 1 - self.dropped
        n1 = max(grid + others, 1)
        n2 = max(int(n1 * (ratio * ratio)), 1)
        union = partial(_rank, tokens=n1, segments=sizes.segments)
        entering = (sizes.tokens,) * first + (n1,) * (second - first)
        return Plan(
            entering=entering + (n2,) * (sizes.layers - second),
            decoder=(
                DecoderStage("union", first, READS, union),
                DecoderStage("best", second, READS, partial(_rank, tokens=n2)),
            ),
            parameters={"layers": (first, second), "tokens": (n1, n2), "grid": grid},
        )


def _nearest(plans: Callable[[int], Plan], total: Fraction, low: int, high: int) -> int:
    """The number in low … high whose plan counts nearest to `total`."""

    def counted(others: int) -> int:
        return sum(plans(others).entering)

    above = bisect_left(range(high), ceil(total), lo=low, key=counted)
    return min((max(above - 1, low), above), key=lambda others: abs(counted(others) - total))


def _on_grid(segment: Segment) -> int:
    return segment.t * len(range(0, segment.h, STRIDE)) * len(range(0, segment.w, STRIDE))


def _grid(segment: Segment, device: torch.device) -> Tensor:
    """bool [tokens]: on the grid of a segment, of each of its frames."""
    y, x = (torch.arange(n, device=device) for n in (segment.h, segment.row_tokens))
    frame = (y % STRIDE == 0)[:, None] & (x % STRIDE == 0) & (x < segment.w)
    flags = frame.flatten().repeat(segment.t)
    return pad(flags, (0, segment.tokens - len(flags)))


def _rank(view: View, tokens: int, segments: tuple[Segment, ...] = ()) -> Selection:
    """The best, after those that lie on the grids of these segments."""
    scores = attention_without_rope(*(view[read] for read in READS))
    if segments:
        flags = torch.cat([_grid(segment, scores.device) for segment in segments])
        scores = scores.masked_fill(flags, inf)
    return Selection(Cut(best_in_order(scores, tokens)))
