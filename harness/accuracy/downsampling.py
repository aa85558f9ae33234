"""Pictures made smaller until an unpruned model has so many visual tokens of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby, product
from math import ceil, floor, sqrt
from typing import Any

from PIL import Image
from torch import Tensor

from methods import PruningError


def downsampled(
    processor: Any, images: Sequence[Image.Image], counts: Sequence[int], budget: Fraction
) -> list[Image.Image]:
    """The images, each of at most its share of `budget` tokens, where they have more: `counts`.

    Raises PruningError for a processor whose images have other sizes than their pixels say.
    """
    total = sum(counts)
    if budget >= total:
        return list(images)
    side = side_of_a_token(processor)
    return [
        resized(image, max(floor(budget * count / total), 1), side)
        for image, count in zip(images, counts, strict=True)
    ]


def runs_of(flags: Tensor) -> list[int]:
    """Lengths of the runs of what is true in bool [n]."""
    return [len(list(own)) for flag, own in groupby(flags.tolist()) if flag]


def side_of_a_token(processor: Any) -> int:
    """Pixels. Raises PruningError where an image's tokens do not follow from its pixels."""
    images = processor.image_processor
    sizes = dict(getattr(images, "size", None) or {})
    merged = getattr(images, "merge_size", None)
    if merged is None or not {"shortest_edge", "longest_edge"} <= sizes.keys():
        raise PruningError(
            "Downsample is not defined here: this model's images have one size, or sizes of crops, "
            "whatever their pixels"
        )
    return images.patch_size * merged


def resized(image: Image.Image, tokens: int, side: int) -> Image.Image:
    """The image in the largest grid of at most `tokens` squares of `side` pixels that comes near
    its own proportions.
    """
    rows = sqrt(tokens * image.height / image.width)
    columns = tokens / rows
    grids = [
        (max(h, 1), max(w, 1))
        for h, w in product((floor(rows), ceil(rows)), (floor(columns), ceil(columns)))
        if max(h, 1) * max(w, 1) <= tokens
    ]
    high, wide = max(grids, key=lambda grid: grid[0] * grid[1], default=(1, 1))
    return image.convert("RGB").resize((wide * side, high * side), Image.Resampling.BICUBIC)
