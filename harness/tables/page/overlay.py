"""What became of every image patch, from a record's selections, and a picture of it.

A patch is kept as it is, merged with others into one token, or dropped before some layer. The
picture is laid over the image: kept patches stay bright, merged ones are tinted by group, dropped
ones are dark, the darker the earlier.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.records.selections import Selection, rows_of

Ints = NDArray[np.int64]

DROPPED = -1
PIXELS = 2
"""Of the overlay, a patch's side."""
_DARK = (10, 12, 18)
_OPAQUE, _FAINT, _TINTED = 215, 135, 150
# sorted so that neighbours differ; distinguishable with red-green blindness
_TINTS = np.array(
    [
        (0, 114, 178),
        (230, 159, 0),
        (204, 121, 167),
        (0, 158, 115),
        (213, 94, 0),
        (86, 180, 233),
        (240, 228, 66),
        (120, 94, 240),
    ]
)


@dataclass(frozen=True)
class Patches:
    """`row` int64 [patches]: the token a patch ended in, -1 if dropped; `lost` int64 [patches]:
    the number of the cut that dropped it, -1 if none did; `cuts`: how many there were.
    """

    row: Ints
    lost: Ints
    cuts: int

    @property
    def merged(self) -> NDArray[np.bool_]:
        """Patches that share their token with others."""
        sizes = np.bincount(self.row[self.row >= 0], minlength=1)
        return (self.row >= 0) & (sizes[np.maximum(self.row, 0)] > 1)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Patches that have a token for themselves."""
        return (self.row >= 0) & ~self.merged


def patches(selections: Sequence[Selection], count: int) -> Patches | None:
    """Follows `count` patches through a sample's cuts; None where it has not exactly one image,
    no square one, or only digests of what was selected. `count` is 0 where it is not known.
    """
    one = all(selection.segment in (None, 0) for selection in selections)
    told = all(selection.kept is not None for selection in selections)
    if not (one and told and count and isqrt(count) ** 2 == count):
        return None
    row, lost = np.arange(count), np.full(count, -1)
    for number, selection in enumerate(selections):
        if number == 0 and selection.layer is None:
            row = row + selection.rows - count  # the tower's rows begin with CLS
        if row.max(initial=-1) >= selection.rows:
            return None
        moved = np.where(row >= 0, _output_rows(selection)[np.maximum(row, 0)], DROPPED)
        lost[(row >= 0) & (moved < 0)] = number
        row = moved
    return Patches(row, lost, len(selections))


def _output_rows(selection: Selection) -> Ints:
    """The output row that each input row went into, -1 for none: int64 [rows]."""
    kept = np.array(rows_of(selection.kept or ""), dtype=np.int64)
    if selection.groups is None:
        out = np.full(selection.rows, DROPPED)
        out[kept] = np.arange(len(kept))
        return out
    out = np.array(selection.groups, dtype=np.int64)
    # an anchor that others are added to may itself belong to no group: it is the next free row
    anchors = kept[out[kept] < 0]
    taken = set(out[kept].tolist())
    free = [index for index in range(len(kept)) if index not in taken]
    out[anchors] = free[: len(anchors)]
    return out


def overlay(found: Patches) -> Image.Image:
    """RGBA, square, `PIXELS` a patch."""
    side = isqrt(len(found.row))
    colours = np.zeros((side * side, 4), np.uint8)
    step = (_OPAQUE - _FAINT) / max(found.cuts - 1, 1)
    dropped = found.row < 0
    colours[dropped, :3] = _DARK
    colours[dropped, 3] = (_OPAQUE - step * found.lost[dropped]).astype(np.uint8)
    merged = found.merged
    token = found.row[merged]
    colours[merged, :3] = _TINTS[(5 * token + 3 * (token // len(_TINTS))) % len(_TINTS)]
    colours[merged, 3] = _TINTED
    grid = colours.reshape(side, side, 4).repeat(PIXELS, 0).repeat(PIXELS, 1)
    return Image.fromarray(grid, "RGBA")


def png(image: Image.Image) -> bytes:
    """Without loss; RGBA of few colours as their numbers in a palette."""
    buffer = io.BytesIO()
    colours = image.getcolors(256) if image.mode == "RGBA" else None
    if colours:
        _indexed(image).save(buffer, "PNG", optimize=True, bits=_bits(len(colours)))
    else:
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _indexed(image: Image.Image) -> Image.Image:
    """Exact, and with no more colours than it has: Pillow's palette of 256 is a kilobyte."""
    pixels = np.asarray(image)
    colours, places = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    indexed = Image.fromarray(places.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    indexed.putpalette(colours.tobytes(), "RGBA")
    return indexed


def _bits(colours: int) -> int:
    """Of a pixel of a PNG with a palette."""
    return next(bits for bits in (1, 2, 4, 8) if colours <= 2**bits)


def composed(image: Image.Image, found: Patches, side: int = 504) -> Image.Image:
    """The image with its overlay, `side` pixels wide: RGB."""
    large = (side, side)
    below = image.convert("RGBA").resize(large, Image.Resampling.BICUBIC)
    above = overlay(found).resize(large, Image.Resampling.NEAREST)
    return Image.alpha_composite(below, above).convert("RGB")
