"""ToMe: token merging, in LLaVA's vision tower. https://arxiv.org/abs/2210.09461 (ICLR 2023)

In every tower layer up to the one that is used, between attention and MLP, the rows at even places
each find the row at an odd place whose key, averaged over heads, is most alike. The pairs most
alike merge into their mean, so that later layers run on fewer rows. CLS, the first row, never
merges.

As LLMC+ applies it to LLaVA, which differs from the paper: sizes of merged rows are not carried on,
so that each merge is a plain mean, and attention does not weigh rows by them. The order that
merging leaves, rows that stayed before those that took others in, is the order in the language
model, contiguous. Published: r = 16 merges in every layer. Matched (ours): as many merges as the
budget asks for, spread evenly over the layers, the first ones one more; feasible while each layer
merges at most half of its rows. A layer with nothing to merge leaves its rows as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.interface import (
    Cut,
    Method,
    NewTokens,
    Plan,
    PruningError,
    Read,
    Segment,
    Selection,
    Sizes,
    TowerStage,
    View,
)
from methods.planning import SCHEDULES, half_up, one_of, split
from methods.registry import register
from methods.tensors import ranked

PUBLISHED = 16


@register("tome")
@dataclass(frozen=True)
class ToMe(Method):
    """`r`: rows that each layer merges, `16` or for each layer from the first on `77+77+76`, at
    most half of its rows; the last number holds for all layers after it. Under the matched schedule
    it has to meet the budget, `schedule="published"` takes it, by default 16, whatever the budget.
    """

    label: ClassVar[str] = "ToMe"
    venue: ClassVar[str] = "ICLR 2023"
    link: ClassVar[str] = "https://arxiv.org/abs/2210.09461"
    cuts: ClassVar[str] = "inside the vision tower"
    inside_tower: ClassVar[bool] = True

    schedule: str = "matched"
    r: int | str | None = None

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)
        if self.r is not None and not all(part.isdecimal() for part in str(self.r).split("+")):
            raise PruningError(f"tome: r is a whole number or several, such as 77+76, not {self.r}")

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        merges = self._merges(half_up(budget), sizes)
        left = sizes.tokens - sum(map(sum, merges))
        if self.schedule == "matched" and left != half_up(budget):
            return None
        return Plan(
            entering=(left,) * sizes.layers,
            tower=tuple(
                tuple(
                    TowerStage(
                        *("merge", layer, (Read.HIDDEN, Read.KEYS)),
                        partial(_merge, has_cls=int(segment.has_cls), count=count),
                        before_mlp=True,
                    )
                    for layer, count in enumerate(own)
                    if count
                )
                for segment, own in zip(sizes.segments, merges, strict=True)
            ),
            new_tokens=NewTokens.ENTERED,
            parameters={"r": tuple(merges)},
        )

    def feasible(self, sizes: Sizes) -> tuple[int | None, int | None]:
        """As for every method; with `r` set there is one budget."""
        if self.r is None or self.schedule == "published":
            return super().feasible(sizes)
        left = sizes.tokens - sum(map(sum, self._merges(0, sizes)))
        return left, left

    def _merges(self, tokens: int, sizes: Sizes) -> list[tuple[int, ...]]:
        """Of each segment: rows that each layer merges, for so many tokens in all."""
        totals = split(tokens, [segment.tokens for segment in sizes.segments])
        layers = sizes.feature_layer + 1
        return [
            self._merges_of(segment, total, layers)
            for segment, total in zip(sizes.segments, totals, strict=True)
        ]

    def _merges_of(self, segment: Segment, total: int, layers: int) -> tuple[int, ...]:
        """As set or spread, at most half of the rows there."""
        given = PUBLISHED if self.r is None and self.schedule == "published" else self.r
        if given is None:
            each, more = divmod(segment.tokens - total, layers)
            wanted = [each + (layer < more) for layer in range(layers)]
        else:
            parts = [int(part) for part in str(given).split("+")]
            wanted = (parts + parts[-1:] * layers)[:layers]
        patches, merges = segment.tokens, []
        for count in wanted:
            merges.append(min(count, patches // 2))
            patches -= merges[-1]
        return tuple(merges)


def _merge(view: View, has_cls: int, count: int) -> Selection:
    metric = normalize(view[Read.KEYS].mean(1), dim=-1)
    return Selection(merge_alike(metric, has_cls, count))


def merge_alike(metric: Tensor, has_cls: int, count: int) -> Cut:
    """The cut in which the `count` rows at even places that are most alike to one at an odd place
    go to it. `metric` float [b, rows, d], rows of unit length.
    """
    batch, rows, _ = metric.shape
    alike = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)
    best, to = ranked(alike).max(-1)
    if has_cls:
        best[:, 0] = -torch.inf
    order = best.argsort(dim=1, descending=True, stable=True)
    stays = order[:, count:].sort(dim=1).values
    sources = order[:, :count]
    odd = torch.arange(1, rows, 2, device=metric.device).expand(batch, -1)
    anchors = torch.cat([2 * stays, odd], 1)
    out = torch.arange(anchors.shape[1], device=metric.device).expand(batch, -1)
    groups = torch.empty_like(out[:, :1]).repeat(1, rows).scatter(1, anchors, out)
    groups = groups.scatter(1, 2 * sources, stays.shape[1] + to.gather(1, sources))
    return Cut(anchors, groups, torch.zeros_like(anchors, dtype=torch.bool))
