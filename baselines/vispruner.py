"""VisPruner: beyond text-visual attention. https://arxiv.org/abs/2412.01818 (ICCV 2025)

Half of the tokens are important: the patches that the CLS row attends to most, averaged over heads.
The others are diverse: the rest, ranked by attention, is dealt into two halves again and again, and
the up to eight of the first half that are most alike one of the second are dropped. What is left is
kept in order between tower and projector, with contiguous positions.

B tokens in every layer; int(B · `important_ratio`) are important. The published settings are 0.5,
and 0.75 for 64 tokens on MME. The code fails where the pool is odd when a round starts; ours: the
first half then has one more, and a round drops no more than it has. Each image keeps its share, on
LLaVA-NeXT each crop; they come out row by row of the picture, padding too, without newlines.
Videos are ours: each frame keeps its share, and its tokens stand for features
(`methods/framewise.py`).

A swap of two nearly equal scores deals all later halves anew, so scores are computed in float64
from float32 features; in float32 the code itself keeps others in a third of cases. The rounds are
sequential, 64 at 64 of 576 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.crops import keep_patches
from methods.interface import Method, Plan, PruningError, Read, Sizes, View
from methods.registry import register
from methods.tensors import gather_rows

AT_ONCE = 8


def least_alike(rows: Tensor, count: int) -> Tensor:
    """Indices of `count` of the ranked rows float64 [b, n, D], in no order: int64 [b, count]."""
    unit = normalize(rows, dim=-1)
    alike = unit @ unit.transpose(1, 2)
    pool = torch.arange(rows.shape[1], device=rows.device).expand(len(rows), -1)
    while pool.shape[1] > count:
        first, second = pool[:, ::2], pool[:, 1::2]
        drop = min(AT_ONCE, pool.shape[1] - count, first.shape[1])
        between = gather_rows(alike, first)
        between = between.gather(2, second[:, None].expand(-1, first.shape[1], -1))
        ranked = between.amax(-1).argsort(dim=-1, descending=True, stable=True)
        pool = torch.cat([first.gather(1, ranked[:, drop:]), second], 1)
    return pool


def important_and_diverse(
    attention: Tensor, features: Tensor, important: int, diverse: int
) -> Tensor:
    """Patches kept, ascending: int64 [b, important + diverse].

    `attention` [b, H, n] of the CLS row, `features` [b, n, D].
    """
    score = attention.float().double().mean(1)
    ranked = score.argsort(dim=-1, descending=True, stable=True)
    kept, pool = ranked[:, :important], ranked[:, important:]
    if diverse:
        rest = gather_rows(features.float().double(), pool)
        kept = torch.cat([kept, pool.gather(1, least_alike(rest, diverse))], 1)
    return kept.sort(1).values


@register("vispruner")
@dataclass(frozen=True)
class VisPruner(Method):
    label: ClassVar[str] = "VisPruner"
    venue: ClassVar[str] = "ICCV 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2412.01818"
    cuts: ClassVar[str] = "vision tower"
    tower_reads: ClassVar[tuple[Read, ...]] = (Read.FEATURES, Read.CLS_ATTENTION)
    crops: ClassVar[bool] = True
    merged_reads: ClassVar[tuple[Read, ...]] = (Read.CLS_ATTENTION,)

    important_ratio: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.important_ratio <= 1:
            raise PruningError(
                f"{self.name}: important_ratio lies in 0 to 1, not at {self.important_ratio:g}"
            )

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        choose = partial(_prune, ratio=self.important_ratio)
        return keep_patches(budget, sizes, "prune", self.tower_reads, choose)


def _prune(view: View, tokens: int, ratio: float) -> Tensor:
    patches = view[Read.FEATURES][:, -view.count :]
    important = int(tokens * ratio)
    return important_and_diverse(view[Read.CLS_ATTENTION], patches, important, tokens - important)
