"""What became of every image patch, from a record's selections, and a picture of it.

A patch is kept as it is, merged with others into one token, or dropped before some layer. The
picture is laid over the image: kept patches stay bright, merged ones are tinted by group, dropped
ones are dark, the darker the earlier.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    the number of the cut that dropped it, -1 if none did; `cuts`: how many there were. `views` of
    the image, int64 [rows, columns] each: the patch, or token, at each place.
    """

    row: Ints
    lost: Ints
    cuts: int
    views: tuple[Ints, ...]

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
    view = np.arange(count).reshape(isqrt(count), -1)
    found = Patches(np.arange(count), np.full(count, DROPPED), 0, (view,))
    for number, selection in enumerate(selections):
        if number == 0 and selection.layer is None:
            # the tower's rows begin with CLS
            found = replace(found, row=found.row + selection.rows - count)
        if found.row.max(initial=-1) >= selection.rows:
            return None
        found = after(found, output_rows(selection))
    return found


def after(found: Patches, moved_to: Ints) -> Patches:
    """What a cut makes of it that moves each row, -1: drops it."""
    row = np.where(found.row >= 0, moved_to[np.maximum(found.row, 0)], DROPPED)
    lost = np.where((found.row >= 0) & (row < 0), found.cuts, found.lost)
    return replace(found, row=row, lost=lost, cuts=found.cuts + 1)


def output_rows(selection: Selection, order: Ints | None = None) -> Ints:
    """The output row that each input row went into, -1 for none: int64 [rows]. Rows go on in their
    own `order`, or in that of these numbers.
    """
    kept = np.array(rows_of(selection.kept or ""), dtype=np.int64)
    if order is not None:
        kept = kept[order[kept].argsort(kind="stable")]
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
    """RGBA, square, `PIXELS` a patch of the finest view; of several views the one that kept a spot
    is seen.
    """
    colours = np.zeros((len(found.row), 4), np.uint8)
    step = (_OPAQUE - _FAINT) / max(found.cuts - 1, 1)
    dropped = found.row < 0
    colours[dropped, :3] = _DARK
    colours[dropped, 3] = (_OPAQUE - step * found.lost[dropped]).astype(np.uint8)
    merged = found.merged
    token = found.row[merged]
    colours[merged, :3] = _TINTS[(5 * token + 3 * (token // len(_TINTS))) % len(_TINTS)]
    colours[merged, 3] = _TINTED
    spots = colours[_best(found)].repeat(PIXELS, 0).repeat(PIXELS, 1)
    return Image.fromarray(spots, "RGBA")


def _best(found: Patches) -> Ints:
    """Of each spot the patch that went farthest in any view: int64 [side, side]."""
    went = np.where(found.row < 0, found.lost, found.cuts + found.kept)
    spots = np.arange(max(max(view.shape) for view in found.views))
    spread = [
        view[np.ix_(spots * view.shape[0] // len(spots), spots * view.shape[1] // len(spots))]
        for view in found.views
    ]
    best = spread[0]
    for other in spread[1:]:
        best = np.where(went[other] > went[best], other, best)
    return best


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
