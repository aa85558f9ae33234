"""HiPrune: anchors, buffers and registers. https://arxiv.org/abs/2508.00553

What a patch receives of all rows' attention in a middle layer of the vision tower finds objects; in
the layer whose output is used it finds registers, which hold what is global. A tenth of the budget
goes to the best of the former (anchors, a fifth of the tenth) and their four neighbours (buffers),
the rest to the best of the latter. The language model sees a plain shorter sequence.

As in the code, neighbours are indices ±1 and ±columns without a look at the borders: left of
column 0 lies the row above. Where they coincide registers fill up, so every budget is met exactly.
The middle layer is the 9th of 24 (ours at another depth: ⌊9·M/24⌋, at least the 1st).

On LLaVA-NeXT each crop keeps its share of the budget; patches come out row by row of the picture,
padding too, without newlines.

On Qwen2.5-VL, in a file of its own, the same is done with merged tokens, whose attention is that of
their patches on average: objects from the 16th of 32 layers (ours at another depth: the middle),
registers from the last, neighbours in the columns of the image (of the first one in the code), and
tokens stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import inf, isqrt
from typing import ClassVar

import torch
from torch import Tensor

from methods.crops import crop_shares, keep_patches
from methods.interface import (
    AnyRead,
    Cut,
    DecoderStage,
    EncoderStage,
    Method,
    OfLayer,
    Part,
    Plan,
    PruningError,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.planning import check_whole
from methods.registry import register
from methods.tensors import best_in_order

ANCHOR_SHARE = Fraction(1, 10) / 5


def object_layer(layers: int) -> int:
    """The layer that finds objects, counted from 0."""
    return max(1, 9 * layers // 24) - 1


def middle_layer(layers: int) -> int:
    """The one that finds objects in a tower that merges patches."""
    return max(1, layers // 2) - 1


SCORES = ("objects", "registers")
REGISTERS = Read.RECEIVED_ATTENTION
OBJECTS, MERGED_OBJECTS = OfLayer(REGISTERS, object_layer), OfLayer(REGISTERS, middle_layer)


def hierarchy(objects: Tensor, registers: Tensor, columns: int, tokens: int) -> Tensor:
    """Patches kept, ascending: int64 [b, tokens].

    `objects` and `registers` float32 [b, n]: attention received in the two layers; `columns` of the
    image's grid.
    """
    anchors = best_in_order(objects, round(tokens * ANCHOR_SHARE))
    around = (anchors, anchors - 1, anchors + 1, anchors - columns, anchors + columns)
    first = torch.cat(around, 1).clamp(0, objects.shape[1] - 1)
    return best_in_order(registers.scatter(1, first, inf), tokens)


@register("hiprune")
@dataclass(frozen=True)
class HiPrune(Method):
    label: ClassVar[str] = "HiPrune"
    link: ClassVar[str] = "https://arxiv.org/abs/2508.00553"
    cuts: ClassVar[str] = "vision tower"
    tower_reads: ClassVar[tuple[AnyRead, ...]] = (OBJECTS, REGISTERS)
    merged_reads: ClassVar[tuple[AnyRead, ...]] = (MERGED_OBJECTS, REGISTERS)
    crops: ClassVar[bool] = True

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        if any(segment.kind == "video" for segment in sizes.segments):
            raise PruningError(f"{self.label} is not defined here for videos")
        if all(segment.merged == 1 for segment in sizes.segments):
            return keep_patches(budget, sizes, "hierarchy", self.tower_reads, _choose)
        check_whole(self.label, sizes)
        counts = crop_shares(budget, sizes)
        if counts is None:
            return None
        select = partial(_keep, grids=sizes.grids, counts=counts)
        return Plan(
            entering=(sum(counts),) * sizes.layers,
            encoder=tuple(EncoderStage("see", self.merged_reads, _see) for _ in sizes.segments),
            decoder=(DecoderStage("hierarchy", 0, (), select),),
            parameters={"tokens": counts},
        )


def _choose(view: View, tokens: int) -> Tensor:
    columns = isqrt(view.count)
    if columns**2 != view.count:
        raise PruningError("HiPrune looks at patches above and below, and wants square images")
    return hierarchy(view[OBJECTS].mean(1), view[REGISTERS].mean(1), columns, tokens)


def _see(view: View) -> Selection:
    objects, registers = view[MERGED_OBJECTS].mean(1), view[REGISTERS].mean(1)
    return Selection(visual=dict(zip(SCORES, (objects, registers), strict=True)))


def _keep(view: View, grids: tuple[Part, ...], counts: tuple[int, ...]) -> Selection:
    kept = []
    for grid, count in zip(grids, counts, strict=True):
        own = slice(grid.first, grid.first + grid.tokens)
        objects, registers = (view.carry[name][:, own] for name in SCORES)
        kept.append(grid.first + hierarchy(objects, registers, grid.w, count))
    return Selection(Cut(torch.cat(kept, 1)))
