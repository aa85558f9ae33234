"""G-Prune: information flows over a graph of tokens. https://arxiv.org/abs/2501.02268 (AAAI 2025)

The patches of an image are a graph: those with a cosine of at least 0.5 are neighbours. The lengths
of their embeddings flow along it five times, each patch handing on its own by a softmax of cosines
over its neighbours. What has arrived, divided by the number of neighbours, ranks the patches; the
best stay before layer 0, at their own positions.

B tokens in every layer. The published code prunes LLaVA-NeXT, base view and joined crops a graph
each with its share of the budget, and newlines stay, which count (ours); for LLaVA-1.5 it is the
base view's half, with each image a graph (ours). It multiplies the matrix by itself first and then
the lengths, the same but for rounding, and takes weights above 0 for neighbours, which float16
rounds some of to 0; here a neighbour is a cosine of at least 0.5, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import inf
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    Part,
    Plan,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.planning import check_images, half_up, part_shares
from methods.registry import register
from methods.tensors import best_in_order, first_true, of_each_part, places_of

NEIGHBOURS, TEMPERATURE, ROUNDS = 0.5, 0.03, 5


def arrived(rows: Tensor) -> Tensor:
    """What has flowed to each of the rows [b, n, D], per neighbour that it has: float32 [b, n]."""
    rows = rows.float()
    unit = normalize(rows, dim=-1)
    cosines = unit @ unit.transpose(1, 2)
    itself = torch.eye(rows.shape[1], dtype=torch.bool, device=rows.device)
    neighbours = (cosines >= NEIGHBOURS) | itself
    handed = (cosines / TEMPERATURE).masked_fill(~neighbours, -inf).softmax(-1)
    flow = rows.norm(dim=-1)[:, None]
    for _ in range(ROUNDS):
        flow = flow @ handed
    return flow[:, 0] / neighbours.sum(-1)


@register("gprune")
@dataclass(frozen=True)
class GPrune(Method):
    label: ClassVar[str] = "G-Prune"
    venue: ClassVar[str] = "AAAI 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2501.02268"
    cuts: ClassVar[str] = "before layer 0"

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        check_images(self.label, sizes)
        tokens = max(half_up(budget), 1)
        counts = part_shares(tokens - sizes.newlines, sizes.grids)
        if counts is None:
            return None
        rank = partial(_rank, grids=sizes.grids, counts=counts)
        return Plan(
            entering=(tokens,) * sizes.layers,
            decoder=(DecoderStage("graph", 0, (Read.HIDDEN,), rank),),
            parameters={"tokens": counts},
        )


def _rank(view: View, grids: tuple[Part, ...], counts: tuple[int, ...]) -> Selection:
    rows = view[Read.HIDDEN]
    newline = torch.ones_like(view.segments, dtype=torch.bool)
    for grid in grids:
        newline[:, places_of(grid, rows.device)] = False
    kept = newline.scatter(1, of_each_part(_best, grids, counts, rows), True)
    newlines = view.count - sum(grid.tokens for grid in grids)
    return Selection(Cut(first_true(kept, sum(counts) + newlines)))


def _best(rows: Tensor, count: int) -> Tensor:
    return best_in_order(arrived(rows), count)
