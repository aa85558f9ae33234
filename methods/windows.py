"""Windows of a grid of patches, of near-equal sides."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.sizes import Part


def best_of_windows(scores: Tensor, part: Part, grid: tuple[int, int], each: int) -> Tensor:
    """Flags of the `each` patches with the largest scores [b, n] in each of `grid` windows, rows by
    columns; of equal scores the lower indices: bool [b, n].
    """
    rows, columns = grid
    index = torch.arange(scores.shape[1], device=scores.device)
    window = index // part.w * rows // part.h * columns
    window = window + index % part.w * columns // part.w
    equal = scores[:, None] == scores[..., None]
    ahead = (scores[:, None] > scores[..., None]) | (equal & (index < index[:, None]))
    return (ahead & (window == window[:, None])).sum(-1) < each
