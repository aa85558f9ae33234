"""What stages between tower and projector see, without data, and FLOPs of what they read."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

import torch
from torch import Tensor

from methods.encoding import Encoded
from methods.groups import Group
from methods.plan import EncoderStage
from methods.reads import Read, View, what_of
from methods.sizes import ModelShape, Segment, Sizes

META = torch.device("meta")


def alike(sizes: Sizes, shape: ModelShape) -> tuple[Encoded, ...]:
    """Images of one size; what tower and projector cost is not asked here."""
    return tuple(Encoded(shape.tower_rows, s.has_cls, 0, 0) for s in sizes.segments)


def encoder_view(
    group: Group,
    stage: EncoderStage,
    segments: Sequence[Segment],
    encoded: Sequence[Encoded],
    shape: ModelShape,
) -> tuple[View, int]:
    """The view of a stage for some segments, and how many rows it shows."""
    images = sum(segment.tower_images for segment in segments)
    patches = sum(map(_shown_of, segments))
    # of frames tokens are shown, without CLS rows
    with_cls = segments[0].has_cls and segments[0].kind == "image"
    rows, width = patches + images * with_cls, shape.tower_width
    weights = empty(1, shape.tower_heads, patches)
    shown = {
        Read.FEATURES: empty(1, rows, shape.projected_width or width),
        Read.TOWER_KEYS: empty(1, rows, width),
        Read.CLS_QUERY: empty(1, sum(_asking(_each(segments, encoded))), width),
        Read.CLS_ATTENTION: weights,
        Read.RECEIVED_ATTENTION: weights,
    }
    view = View(
        count=patches,
        segments=empty(1, patches, dtype=torch.long),
        seeds=group.seeds,
        questions=group.questions,
        reads={read: shown[what_of(read)] for read in stage.reads},
    )
    return view, rows


def _shown_of(segment: Segment) -> int:
    """Rows without CLS: patches of crops, or the tokens of a video."""
    if segment.kind == "video":
        return segment.tokens
    return segment.tower_images * segment.patches


def encoder_reads(
    stage: EncoderStage,
    segments: Sequence[Segment],
    encoded: Sequence[Encoded],
    shape: ModelShape,
) -> int:
    """FLOPs of the attention that a stage reads of some segments."""
    images = _each(segments, encoded)
    rows = [image.rows for image in images]
    asking = {Read.CLS_ATTENTION: _asking(images), Read.RECEIVED_ATTENTION: rows}
    read = [asking[what] for what in map(what_of, stage.reads) if what in asking]
    return sum(2 * sum(map(mul, queries, rows)) * shape.tower_width for queries in read)


def _each(segments: Sequence[Segment], encoded: Sequence[Encoded]) -> list[Encoded]:
    """Of each tower image that segments are made of."""
    pairs = zip(segments, encoded, strict=True)
    return [own for segment, own in pairs for _ in range(segment.tower_images)]


def _asking(images: Sequence[Encoded]) -> list[int]:
    """The CLS row of each; without one the mean over all rows stands in for it."""
    return [1 if image.has_cls else image.rows for image in images]


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)
