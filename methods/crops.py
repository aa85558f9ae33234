"""Cuts between tower and projector that keep patches: how a budget is dealt over images and their
crops, and the order in which what they keep goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from methods.cuts import place_in_picture
from methods.framewise import keep_of_frames, shown_as_tokens
from methods.plan import Cut, EncoderStage, NewTokens, Plan, Selection
from methods.planning import half_up, shares
from methods.reads import BY_PATCH, AnyRead, View, what_of
from methods.sizes import Part, Segment, Sizes
from methods.tensors import places_of

Own = TypeVar("Own")
Segments = tuple[Segment, ...]


def crop_shares(budget: Fraction, sizes: Sizes) -> tuple[int, ...] | None:
    """What each crop keeps, in proportion to its patches; None where one would keep none, or more
    than it has.
    """
    return shares(max(half_up(budget), 1), patches_of_crops(sizes))


def patches_of_crops(sizes: Sizes) -> list[int]:
    """How many each crop, or image that is none of several, has in the tower."""
    return [s.patches for s in sizes.segments for _ in range(s.tower_images)]


def stage_each(
    name: str,
    reads: tuple[AnyRead, ...],
    select: Callable[..., Selection],
    of_all: Sequence[Own],
    sizes: Sizes,
) -> tuple[EncoderStage, ...]:
    """A stage for each segment, `select(view, segment=..., crops=...)` with what its crops have
    `of_all` that is given for every crop.
    """
    values = iter(of_all)
    return tuple(
        EncoderStage(
            name,
            reads,
            partial(select, segment=own, crops=tuple(islice(values, own.tower_images))),
        )
        for own in sizes.segments
    )


def keep_patches(
    budget: Fraction,
    sizes: Sizes,
    stage: str,
    reads: tuple[AnyRead, ...],
    choose: Callable[[View, int], Tensor],
) -> Plan | None:
    """A plan that keeps patches between tower and projector, each image, or crop, its share.

    `choose(view, tokens)`: which patches, int64 [b, tokens], in the order in which the language
    model shall see them; those of several crops are seen row by row of the picture. Videos are
    cut by `keep_of_frames`. None where an image would keep none.
    """
    if shown_as_tokens(sizes):
        return keep_of_frames(budget, sizes, stage, reads, lambda view, _, n: choose(view, n))
    counts = crop_shares(budget, sizes)
    if counts is None:
        return None
    stages = stage_each(stage, reads, partial(_keep, choose=choose), counts, sizes)
    return _kept_before_projector(stages, sizes, counts)


def keep_of_images(
    budget: Fraction,
    sizes: Sizes,
    stage: str,
    reads: tuple[AnyRead, ...],
    choose: Callable[[View, Segments, int], Tensor],
) -> Plan | None:
    """The same with one stage for all crops of an image, which has its share of the budget.

    `choose(view, segments, tokens)`: which patches, in the order in which the language model shall
    see them, counted from crop to crop.
    """
    if shown_as_tokens(sizes):
        return keep_of_frames(budget, sizes, stage, reads, choose)
    patches = [sum(s.tower_images * s.patches for s in segments) for segments in sizes.images]
    counts = shares(max(half_up(budget), 1), patches)
    if counts is None:
        return None
    stages = [
        EncoderStage(
            stage,
            reads,
            partial(_keep_of_image, choose=choose, segments=segments, tokens=tokens),
            len(segments),
        )
        for segments, tokens in zip(sizes.images, counts, strict=True)
    ]
    return _kept_before_projector(stages, sizes, counts)


def _kept_before_projector(
    stages: Sequence[EncoderStage], sizes: Sizes, counts: tuple[int, ...]
) -> Plan:
    return Plan(
        entering=(sum(counts),) * sizes.layers,
        encoder=tuple(stages),
        new_tokens=NewTokens.ENTERED,
        parameters={"tokens": counts},
    )


def _keep(
    view: View, choose: Callable[[View, int], Tensor], segment: Segment, crops: tuple[int, ...]
) -> Selection:
    kept = [choose(own, n) for own, n in zip(of_crops(view, len(crops)), crops, strict=True)]
    patches = torch.cat([own + i * segment.patches for i, own in enumerate(kept)], 1)
    if segment.crops is not None:
        patches = patches.gather(1, order_in_pictures(patches, (segment,)))
    return Selection(Cut(tower_rows(patches, segment)))


def _keep_of_image(
    view: View, choose: Callable[[View, Segments, int], Tensor], segments: Segments, tokens: int
) -> Selection:
    return Selection(Cut(tower_rows(choose(view, segments, tokens), segments[0])))


def tower_rows(patches: Tensor, segment: Segment) -> Tensor:
    """Patches int64 [b, n], counted from crop to crop, as rows of the tower, CLS rows included."""
    first = int(segment.has_cls)
    crop, patch = patches // segment.patches, patches % segment.patches
    return crop * (segment.patches + first) + first + patch


def order_in_pictures(patches: Tensor, segments: Segments) -> Tensor:
    """The order int64 [b, n] that takes patches [b, n], counted from crop to crop of an image's
    segments, segment after segment and row by row of each picture.
    """
    return _places(segments, patches.device)[patches].argsort(dim=1)


def _places(segments: Segments, device: torch.device) -> Tensor:
    """int64 [patches of all crops]: in that order, the place of each."""
    places, first = [], 0
    for segment in segments:
        patch = torch.arange(segment.patches, device=device)
        for crop in range(segment.tower_images):
            own = patch if segment.crops is None else place_in_picture(patch, crop, segment.crops)
            places.append(own + first)
        first += segment.tower_images * segment.patches
    return torch.cat(places)


def patches_of(part: Part, segment: Segment, device: torch.device) -> Tensor:
    """int64 [part.tokens]: the patches that its tokens are made of, counted from crop to crop."""
    _, side = segment.crop_shape
    row = torch.arange(part.top, part.top + part.h, device=device)[:, None]
    column = torch.arange(part.left, part.left + part.w, device=device)
    return part.image * segment.patches + (row * side + column).flatten()


def of_crops(view: View, count: int) -> Iterator[View]:
    """What a view of `count` crops shows of each of them."""
    shown = {
        read: tensor.chunk(count, -1 if what_of(read) in BY_PATCH else 1)
        for read, tensor in view.reads.items()
    }
    for i, segments in enumerate(view.segments.chunk(count, 1)):
        reads = {read: parts[i] for read, parts in shown.items()}
        yield replace(view, count=segments.shape[1], segments=segments, reads=reads)


def numbered(parts: Sequence[Part], like: Tensor) -> Tensor:
    """The number of each token's part, behind the last one's for a newline; as `like` [b, v]."""
    numbers = torch.full_like(like, len(parts))
    for i, part in enumerate(parts):
        numbers[:, places_of(part, like.device)] = i
    return numbers
