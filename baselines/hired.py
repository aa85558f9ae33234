"""HiRED: attention-guided token dropping. https://arxiv.org/abs/2408.10945 (AAAI 2025)

A share of the budget, `alpha`, is for the view of the whole image; the rest is shared out over the
crops by what the view's CLS row attends to in the tower's first layer. Each keeps the patches that
its own CLS row attends to most in the layer that is used. LLaVA-1.5 has no crops, so only that is
left: FasterVLM's selection, added over heads where that averages, which ranks the same.

A crop is given what it has of the best (1 − α)·N patches of the view; as in the code that counts
runs of the view's patches row by row, which are no quadrants. The code rounds shares down and loses
up to one token a crop. Ours: those go one by one to the crops with the largest remainders, so that
B tokens enter every layer; several images share the budget. The code also loses what it kept of
padding; here it stays, row by row of the picture, without newlines.

Videos are ours: each frame keeps its share, as an image without crops (`methods/framewise.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from methods.crops import keep_of_images, order_in_pictures
from methods.framewise import shown_as_tokens
from methods.interface import (
    AnyRead,
    Method,
    OfLayer,
    Plan,
    PruningError,
    Read,
    Segment,
    Sizes,
    View,
)
from methods.registry import register
from methods.tensors import best_in_order, dealt_out, first_true, ranked

FIRST = OfLayer(Read.CLS_ATTENTION, 0)


def of_view(tokens: int, crops: int, patches: int, alpha: float) -> int:
    """What of `tokens` the view of the whole keeps, beside `crops`."""
    if not crops:
        return tokens
    # as many as leave each of the others no more than it has
    return max(min(int(tokens * alpha), patches), tokens - crops * patches)


def shares_of_crops(early: Tensor, crops: int, marked: int, tokens: int) -> Tensor:
    """What of `tokens` each crop keeps: int64 [b, crops].

    `early` float32 [b, n]: the first layer's attention in the view, whose `marked` best count.
    """
    patches = early.shape[1]
    run = best_in_order(early, marked) * crops // patches
    one = torch.ones_like(early[:, :marked])
    found = torch.zeros_like(early[:, :crops]).scatter_add(1, run, one)
    share = found / marked * tokens
    order = (share - share.floor()).argsort(dim=1, descending=True, stable=True)
    most = torch.full((crops,), patches, device=early.device)
    return dealt_out(share.floor().long().clamp(max=patches), order, most, tokens)


@register("hired")
@dataclass(frozen=True)
class HiRED(Method):
    label: ClassVar[str] = "HiRED"
    venue: ClassVar[str] = "AAAI 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2408.10945"
    cuts: ClassVar[str] = "vision tower"
    tower_reads: ClassVar[tuple[AnyRead, ...]] = (Read.CLS_ATTENTION, FIRST)
    crops: ClassVar[bool] = True
    merged_reads: ClassVar[tuple[Read, ...]] = (Read.CLS_ATTENTION,)

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise PruningError(f"{self.name}: alpha lies between 0 and 1, not at {self.alpha:g}")

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        choose = partial(_choose, alpha=self.alpha)
        crops = len(sizes.images) < len(sizes.segments) and not shown_as_tokens(sizes)
        reads = self.tower_reads if crops else self.merged_reads
        return keep_of_images(budget, sizes, "rank", reads, choose)


def _choose(view: View, segments: tuple[Segment, ...], tokens: int, alpha: float) -> Tensor:
    patches = segments[0].patches
    crops = view.count // patches - 1
    late = view[Read.CLS_ATTENTION].mean(1).unflatten(1, (-1, patches))
    whole = of_view(tokens, crops, patches, alpha)
    counts = torch.full_like(late[:, :1, 0], whole, dtype=torch.long)
    if crops:
        early, marked = view[FIRST].mean(1)[:, :patches], int(patches * (1 - alpha))
        shares = shares_of_crops(early, crops, max(marked, 1), tokens - whole)
        counts = torch.cat([counts, shares], 1)
    order = ranked(late).argsort(dim=-1, descending=True, stable=True)
    best = torch.arange(patches, device=late.device) < counts[..., None]
    kept = torch.zeros_like(best).scatter(2, order, best)
    found = first_true(kept.flatten(1), tokens)
    return found.gather(1, order_in_pictures(found, segments))
