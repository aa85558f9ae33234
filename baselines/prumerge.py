"""LLaVA-PruMerge and PruMerge+. https://arxiv.org/abs/2403.15388 (ICCV 2025)

CLS's attention in the vision tower's last layer, from whole q and k without heads, weighs the
patches. Each of the best takes in the 32 patches of the most similar keys, its own feature plus
their weighted sum; one token more is the weighted sum of all that were not kept. Tokens follow one
another by falling weight; PruMerge+ keeps every step-th patch as well, after the best.

In the paper and by default in the code outliers decide the count, which a plan cannot. Plain: the
code's own switch to a fixed count, B − 1 patches and the one token more. Ours for `variant=plus`:
step = ⌊⌊4N/(B−1)⌋/3⌋, three on the grid to one of the best, and the fewest best patches that make
B − 1 with it; the step grows where the grid alone has more. Without a CLS row the mean attention of
all rows stands in (ours). On LLaVA-NeXT each crop is merged by itself, padding too, with an equal
share of the budget, where the code's count is equal likewise; crop follows crop (ours), the whole
first, without newlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from methods.crops import crop_shares, of_crops, patches_of_crops, stage_each
from methods.cuts import joined
from methods.interface import (
    AnyRead,
    Cut,
    Method,
    NewTokens,
    OfLayer,
    Plan,
    Read,
    Segment,
    Selection,
    Sizes,
    View,
)
from methods.planning import one_of
from methods.registry import register
from methods.tensors import first_true, gather_rows, ranked

NEIGHBOURS = 32
VARIANTS = ("plain", "plus")


def last_layer(layers: int) -> int:
    """The tower's last, counted from 0."""
    return layers - 1


QUERY, KEYS = OfLayer(Read.CLS_QUERY, last_layer), OfLayer(Read.TOWER_KEYS, last_layer)


def grid_step(patches: int, kept: int) -> int:
    """PruMerge+'s step among `patches`, such that `kept` hold all that are on the grid."""
    step = max(1, 4 * patches // kept // 3)
    while len(range(0, patches - 1, step)) > kept:
        step += 1
    return step


def best_and_grid(ranking: Tensor, kept: int, step: int) -> Tensor:
    """`kept` patches: the best of `ranking` int64 [b, n], then those of the grid not among them."""
    patches, index = ranking.shape[1], torch.arange(ranking.shape[1], device=ranking.device)
    off_grid = (ranking % step != 0) | (ranking == patches - 1)
    # the best reach as far as it takes to have so many off the grid among them
    others = kept - len(range(0, patches - 1, step))
    is_best = off_grid.long().cumsum(1) - off_grid.long() < others
    order = torch.where(is_best, index, patches + ranking)
    order = order.masked_fill(~is_best & off_grid, 2 * patches)
    return ranking.gather(1, order.argsort(dim=1, stable=True)[:, :kept])


def merged(kept: Tensor, weights: Tensor, keys: Tensor) -> Tensor:
    """What each output row takes of each patch: float32 [b, n + 1, patches], itself apart.

    `kept` int64 [b, n], `weights` float32 [b, patches], `keys` float32 [b, patches, d] of unit
    length.
    """
    alike = gather_rows(keys, kept) @ keys.transpose(1, 2)
    alike = ranked(alike).scatter(2, kept[..., None], -torch.inf)
    near = alike.argsort(dim=2, descending=True, stable=True)
    near = near[..., : min(NEIGHBOURS, keys.shape[1] - 1)]
    share = weights[:, None].expand_as(alike)
    around = torch.zeros_like(alike).scatter(2, near, share.gather(2, near))
    rest = weights.scatter(1, kept, 0.0)
    return torch.cat([around, rest[:, None]], 1)


@register("prumerge")
@dataclass(frozen=True)
class PruMerge(Method):
    """`variant`: "plain" or "plus"."""

    label: ClassVar[str] = "PruMerge"
    venue: ClassVar[str] = "ICCV 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2403.15388"
    cuts: ClassVar[str] = "vision tower"
    tower_reads: ClassVar[tuple[AnyRead, ...]] = (Read.FEATURES, QUERY, KEYS)
    crops: ClassVar[bool] = True

    variant: str = "plain"

    def __post_init__(self) -> None:
        one_of(self.name, "variant", self.variant, VARIANTS)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        counts, plus = crop_shares(budget, sizes), self.variant == "plus"
        if counts is None or min(counts) < 1 + plus:
            return None
        steps = [
            grid_step(patches, tokens - 1) if plus else None
            for patches, tokens in zip(patches_of_crops(sizes), counts, strict=True)
        ]
        return Plan(
            entering=(sum(counts),) * sizes.layers,
            encoder=stage_each(
                "merge", self.tower_reads, _merge, list(zip(counts, steps, strict=True)), sizes
            ),
            new_tokens=NewTokens.ENTERED,
            parameters={"tokens": counts} | ({"steps": tuple(steps)} if plus else {}),
        )


def _merge(view: View, segment: Segment, crops: tuple[tuple[int, int | None], ...]) -> Selection:
    """`crops`: tokens and the grid's step of each crop."""
    first = int(segment.has_cls)
    cuts = [
        _of_crop(own, tokens, step, first)
        for own, (tokens, step) in zip(of_crops(view, len(crops)), crops, strict=True)
    ]
    return Selection(joined(cuts, [segment.patches + first] * len(cuts)))


def _of_crop(view: View, tokens: int, step: int | None, first: int) -> Cut:
    query, keys = view[QUERY].float(), view[KEYS].float()
    scores = query @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5
    weights = ranked(scores.softmax(-1).mean(1)[:, first:])
    ranking = weights.argsort(dim=1, descending=True, stable=True)
    plain = ranking[:, : tokens - 1]
    kept = plain if step is None else best_and_grid(ranking, tokens - 1, step)
    own = merged(kept, weights, normalize(keys[:, first:], dim=-1))
    out = torch.ones_like(weights, dtype=torch.bool).scatter(1, kept, False)
    anchors = torch.cat([kept, first_true(out, 1)], 1)
    itself = torch.arange(tokens, device=kept.device) < tokens - 1
    return Cut(anchors + first, None, itself.expand_as(anchors), pad(own, (first, 0)))
