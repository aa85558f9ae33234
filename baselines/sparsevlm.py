"""SparseVLM: visual token sparsification. https://arxiv.org/abs/2410.04417 (ICML 2025)

Text tokens that the image speaks to (raters) are found once, on the embeddings. After layers 2, 6
and 15 of 32 the attention that raters give ranks the visual tokens; the best stay, and a third of
the others is clustered (DPC-KNN) and recycled as one mean a cluster, after the kept ones.

The authors count tokens *leaving* a layer: their list for "192" lets 206.5 enter one on average,
128 → 145.4, 64 → 82.3. `schedule="published"` runs their lists; by default the nearest list is
scaled by one factor until what enters a layer, recycled tokens included, is the budget.
Where the published code breaks equal densities by noise, the earlier token counts as denser.

The published branch for video cannot run: a function of six parameters is called with five. Here a
video is cut like any image, all frames together, by the same lists scaled to its tokens (ours).

`variant="plus"` is v2.0: attention is divided by what RoPE alone would give, the 14 heads that are
then strongest are averaged, nothing is recycled, and positions are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from methods.clustering import cluster_dpc_knn
from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    NewTokens,
    Plan,
    Positions,
    PruningError,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.planning import SCHEDULES, half_up, layers_of, nearest_count, one_of
from methods.registry import register
from methods.tensors import best_in_order, gather_rows

LAYERS = (2, 6, 15)
PUBLISHED = {
    "v1.5": {192: (300, 200, 110), 128: (303, 110, 36), 64: (66, 30, 17)},
    "plus": {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)},
}
PLUS_HEADS = Fraction(14, 32)


def recycled(dropped: int) -> tuple[int, int]:
    """Of so many dropped tokens, how many are recycled and into how many clusters."""
    rows = dropped * 3 // 10 + 1
    return rows, rows // 10 + 1


def raters(visual: Tensor, text: Tensor, after: Tensor) -> Tensor:
    """Text tokens above the mean of what visual tokens give them: bool [b, t].

    `visual` [b, v, D] and `text` [b, t, D] embeddings, `after` bool [b, t] text after the image.
    The last row is the prompt's last token; it is the only rater where there is no other.
    """
    scores = visual.float() @ text.float().transpose(1, 2)
    weights = scores.masked_fill(~after[:, None], -inf).softmax(-1).mean(1).nan_to_num(0.0)
    mean = weights.sum(-1, keepdim=True) / after.sum(-1, keepdim=True).clamp(min=1)
    chosen = after & (weights > mean)
    chosen[:, -1] = ~chosen.any(-1)
    return chosen


def rope_product(rows: Tensor, columns: Tensor, frequencies: Tensor) -> Tensor:
    """q·k/√d of all-ones q and k at these position ids: float32 [b, r, v]."""
    apart = (rows[:, :, None] - columns[:, None]).float()
    angles = apart[..., None] * frequencies.float()
    return angles.cos().sum(-1) * 2 / (2 * len(frequencies)) ** 0.5


@register("sparsevlm")
@dataclass(frozen=True)
class SparseVLM(Method):
    """`variant`: "v1.5" or "plus"; `schedule`: "matched" or "published"."""

    label: ClassVar[str] = "SparseVLM"
    venue: ClassVar[str] = "ICML 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2410.04417"
    cuts: ClassVar[str] = "after layers 2, 6 and 15"

    schedule: str = "matched"
    variant: str = "v1.5"

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)
        one_of(self.name, "variant", self.variant, tuple(PUBLISHED))

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        layers = layers_of(self.name, self.schedule, LAYERS, (None,) * 3, sizes.layers)
        if layers[-1] + 1 >= sizes.layers:
            raise PruningError(f"{self.name}: a cut after layer {layers[-1]} cuts nothing")
        lists = PUBLISHED[self.variant]
        wanted = budget * 576 / sizes.tokens
        kept = lists[min(sorted(lists), key=lambda published: abs(published - wanted))]
        if self.schedule == "published":
            if wanted not in lists:
                names = ", ".join(map(str, sorted(lists)))
                raise PruningError(f"{self.name}: published lists are for {names} of 576 tokens")
            return self._plan(sizes, layers, kept)

        def scaled(factor: Fraction) -> Plan:
            return self._plan(sizes, layers, tuple(max(half_up(factor * n), 1) for n in kept))

        factor = nearest_count(
            lambda f: sum(scaled(f).entering),
            sizes.layers * budget,
            Fraction(0),
            Fraction(sizes.tokens, min(kept)),
        )
        plan = scaled(factor)
        return plan if abs(plan.mean_entering - budget) <= 1 else None

    def _plan(self, sizes: Sizes, layers: tuple[int, ...], kept: tuple[int, ...]) -> Plan:
        """The plan that keeps these many, at most all but one of those that are there."""
        entering = [sizes.tokens] * sizes.layers
        stages, recycles = [], self.variant != "plus"
        for layer, wanted in zip(layers, kept, strict=True):
            there = entering[layer]
            tokens = max(min(wanted, there - 1), 1)
            _, clusters = recycled(there - tokens) if recycles else (0, 0)
            entering[layer + 1 :] = [tokens + clusters] * (sizes.layers - layer - 1)
            stages.append((layer, tokens))
        rank, positions = (
            (_rank, Positions.CONTIGUOUS) if recycles else (_rank_plus, Positions.ORIGINAL)
        )
        return Plan(
            entering=tuple(entering),
            decoder=(
                DecoderStage("raters", 0, (Read.HIDDEN, Read.TEXT_HIDDEN), _raters),
                *(_stage(layer, tokens, rank, positions) for layer, tokens in stages),
            ),
            new_tokens=NewTokens.CACHE if recycles else NewTokens.PROMPT,
            parameters={"layers": layers, "tokens": tuple(tokens for _, tokens in stages)},
        )


def _stage(
    layer: int, tokens: int, rank: Callable[..., Selection], positions: Positions
) -> DecoderStage:
    reads: tuple[Read, ...] = (Read.HIDDEN, Read.TEXT_ATTENTION)
    if rank is _rank_plus:
        reads = (Read.TEXT_ATTENTION, Read.ROTARY)
    return DecoderStage(f"after{layer}", layer + 1, reads, partial(rank, tokens=tokens), positions)


def _raters(view: View) -> Selection:
    chosen = raters(view[Read.HIDDEN], view[Read.TEXT_HIDDEN], view.text_after_image)
    return Selection(text={"raters": chosen})


def _mean_of_raters(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the rater rows of [b, t, v]: [b, v]."""
    weights = chosen.float() / chosen.sum(-1, keepdim=True)
    return (weights[:, None] @ values)[:, 0]


def _rank(view: View, tokens: int) -> Selection:
    scores = _mean_of_raters(view[Read.TEXT_ATTENTION].mean(1), view.carry["raters"])
    kept = best_in_order(scores, tokens)
    rows, clusters = recycled(view.count - tokens)
    again = best_in_order(scores.scatter(1, kept, -inf), rows)
    centres, labels = cluster_dpc_knn(gather_rows(view[Read.HIDDEN], again).float(), clusters)
    groups = torch.full_like(scores, -1, dtype=torch.long).scatter(1, again, tokens + labels)
    own = torch.arange(tokens, device=kept.device).expand_as(kept)
    anchors = torch.cat([kept, again.gather(1, centres)], 1)
    return Selection(Cut(anchors, groups.scatter(1, kept, own), torch.zeros_like(anchors).bool()))


def _rank_plus(view: View, tokens: int) -> Selection:
    chosen, weights = view.carry["raters"], view[Read.TEXT_ATTENTION]
    alone = rope_product(*view.rotary)
    corrected = weights / alone[:, None]
    strength = torch.where(chosen[:, None, :, None], corrected, 0.0).sum((2, 3))
    heads = best_in_order(strength, max(half_up(PLUS_HEADS * weights.shape[1]), 1))
    scores = _mean_of_raters(gather_rows(corrected, heads).mean(1), chosen)
    return Selection(Cut(best_in_order(scores, tokens)))
