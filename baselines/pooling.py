"""Control: averages over blocks of the grid, before layer 0.

Each image becomes rows × columns blocks as even as can be; a block is the mean of its patches, at
the position of its first. Of the pairs whose product is within 1 of the budget the most square is
taken, wider rather than taller: 12 × 16 for 192, 8 × 16 for 128, 8 × 8 for 64 of 24 × 24 patches.
Not every budget has such a pair (202 of 24 × 24 has none). A picture of crops is one grid, and
newline tokens are dropped. Not defined for videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

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
from methods.planning import check_images, half_up, split
from methods.registry import register
from methods.tensors import places_of


def block_shape(height: int, width: int, blocks: int) -> tuple[int, int] | None:
    """The most square (rows, columns) with rows · columns within 1 of `blocks`, nearest first."""
    pairs = [
        (rows, columns)
        for rows in range(1, height + 1)
        for columns in {near // rows for near in (blocks - 1, blocks, blocks + 1)}
        if 1 <= columns <= width and abs(rows * columns - blocks) <= 1
    ]

    def preference(pair: tuple[int, int]) -> tuple[Fraction, int, bool]:
        rows, columns = pair
        squareness = Fraction(min(pair), max(pair))
        return -squareness, abs(rows * columns - blocks), rows > columns

    return min(pairs, key=preference, default=None)


def blocks_of(
    height: int, width: int, shape: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Block int64 [height · width] of each patch, and first patch int64 [blocks] of each block."""
    rows, columns = shape
    y = torch.arange(height, device=device)
    x = torch.arange(width, device=device)
    block = ((y + 1) * rows - 1)[:, None] // height * columns + ((x + 1) * columns - 1) // width
    top = torch.arange(rows, device=device) * height // rows
    left = torch.arange(columns, device=device) * width // columns
    return block.flatten(), (top[:, None] * width + left).flatten()


@register("pooling")
@dataclass(frozen=True)
class Pooling(Method):
    label: ClassVar[str] = "Pooling"
    cuts: ClassVar[str] = "before layer 0"

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        check_images(self.label, sizes)
        wanted = split(half_up(budget), [grid.tokens for grid in sizes.grids])
        shapes, owed = [], 0
        for grid, blocks in zip(sizes.grids, wanted, strict=True):
            shape = block_shape(grid.h, grid.w, blocks + owed)
            if shape is None:
                return None
            shapes.append(shape)
            owed += blocks - shape[0] * shape[1]
        tokens = sum(wanted) - owed
        if abs(tokens - half_up(budget)) > 1:
            return None
        average = partial(_average, grids=sizes.grids, shapes=tuple(shapes))
        return Plan(
            entering=(tokens,) * sizes.layers,
            decoder=(DecoderStage("average", 0, (Read.HIDDEN,), average),),
            parameters={"blocks": tuple(shapes)},
        )

    def feasible(self, sizes: Sizes) -> tuple[int | None, int | None]:
        """Smallest and largest whole budget that can be met; some between them cannot."""
        met = [b for b in range(1, sizes.tokens) if self.solve(Fraction(b), sizes) is not None]
        return (met[0], met[-1]) if met else (None, None)


def _average(view: View, grids: tuple[Part, ...], shapes: tuple[tuple[int, int], ...]) -> Selection:
    anchors, groups, blocks = [], torch.full_like(view.segments, -1), 0
    for grid, shape in zip(grids, shapes, strict=True):
        block, first = blocks_of(grid.h, grid.w, shape, groups.device)
        places = places_of(grid, groups.device)
        groups[:, places] = block + blocks
        anchors.append(places[first])
        blocks += len(first)
    cut = torch.cat(anchors).expand(len(groups), -1)
    return Selection(Cut(cut, groups, torch.zeros_like(cut, dtype=torch.bool)))
