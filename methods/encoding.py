"""What the vision tower and the projector compute for images of any size. Matrix products only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Encoded:
    """Of a segment: `rows` of the tower that each of its tower images has, and whether a CLS row is
    among them; FLOPs of the tower, with what merges patches inside it; rows that the projector
    behind it works on.
    """

    rows: int
    has_cls: bool
    tower_flops: int
    projected: int


def matrices(modules: Iterable[Any]) -> int:
    """Values of the matrices that modules multiply rows by: of linear layers and convolutions."""
    return sum(
        part.in_features * part.out_features  # a quantized weight has another shape
        if isinstance(part, nn.Linear)
        else part.weight.numel()
        for module in modules
        for part in module.modules()
        if isinstance(part, nn.Linear | nn.Conv2d | nn.Conv3d)
    )


def attending(pairs: int, width: int) -> int:
    """FLOPs of q·k and softmax·v where so many rows see a row, over all heads of this `width`."""
    return 2 * 2 * pairs * width
