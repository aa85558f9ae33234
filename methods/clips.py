"""A sample's visual tokens as frames: what methods made for video cut.

Where a prompt has no video, its images, or the tiles of one, are the frames: so InternVL is given
videos. Images beside a video stay whole, and so does a newline; both are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from methods.errors import PruningError
from methods.plan import Cut, EncoderStage, NewTokens, Positions, Selection
from methods.planning import half_up, split
from methods.reads import AnyRead, View
from methods.sizes import Newline, Segment, Sizes


@dataclass(frozen=True)
class Clip:
    """`frames` of `tokens` visual tokens each, from the sample's visual token `start` on."""

    start: int
    frames: int
    tokens: int

    @property
    def size(self) -> int:
        """All its tokens."""
        return self.frames * self.tokens

    @property
    def end(self) -> int:
        return self.start + self.size

    def of(self, rows: Tensor) -> Tensor:
        """Its own of a sample's rows [b, n, ...]: [b, frames, tokens, ...]."""
        return rows[:, self.start : self.end].unflatten(1, (self.frames, self.tokens))


def kind_of(sizes: Sizes) -> str:
    """What a sample's frames are: its videos, or its images where it has none."""
    return "video" if any(segment.kind == "video" for segment in sizes.segments) else "image"


def clips_of(method: str, sizes: Sizes) -> tuple[Clip, ...]:
    """The clips of a sample, in order.

    Raises PruningError where there is no video, and images have crops or newlines.
    """
    kind = kind_of(sizes)
    clips: list[Clip] = []
    start = 0
    for segment in sizes.segments:
        if segment.kind == kind:
            _check(method, segment)
            own = Clip(start, segment.t, segment.frame_tokens)
            if clips and _goes_on(clips[-1], own, segment):
                before = clips.pop()
                own = replace(before, frames=before.frames + own.frames)
            clips.append(own)
        start += segment.tokens
    return tuple(clips)


def _goes_on(before: Clip, own: Clip, segment: Segment) -> bool:
    """Whether frames belong to the clip before them."""
    if segment.kind == "video":
        return segment.frame > 0
    return before.tokens == own.tokens and before.end == own.start


def _check(method: str, segment: Segment) -> None:
    newline = segment.kind == "image" and segment.newline is not Newline.NONE
    if segment.crops is not None or newline or (segment.kind == "image" and segment.resampled):
        raise PruningError(
            f"{method} is not defined here for pictures of crops, nor for images with newlines"
        )


def outside(sizes: Sizes, clips: Sequence[Clip]) -> int:
    """Tokens that are in no clip."""
    return sizes.tokens - sum(clip.size for clip in clips)


def shared(budget: Fraction, sizes: Sizes, clips: Sequence[Clip]) -> tuple[int, ...]:
    """Tokens of each clip, in proportion to its own, after what stays whole; 0 or less where that
    is all, or more.
    """
    left = half_up(budget) - outside(sizes, clips)
    return tuple(split(left, [clip.size for clip in clips]))


def numbering(sizes: Sizes) -> tuple[Positions, NewTokens]:
    """Position ids as methods that cut before layer 0 publish them: contiguous on LLaVAs, as they
    were where the tower merges patches, whose positions have three axes.
    """
    if any(segment.merged > 1 for segment in sizes.segments):
        return Positions.ORIGINAL, NewTokens.PROMPT
    return Positions.CONTIGUOUS, NewTokens.ENTERED


def among_all(count: int, clips: Sequence[Clip], chosen: Sequence[Tensor]) -> Tensor:
    """Rows int64 [b, out] of a sample's `count`: of each clip those `chosen`, int64 [b, k] from its
    first, in their order; and all that are in no clip, in their places.
    """
    pieces: list[Tensor] = []
    after = 0
    for clip, own in zip(clips, chosen, strict=True):
        pieces += [_between(after, clip.start, own), clip.start + own]
        after = clip.end
    return torch.cat([*pieces, _between(after, count, chosen[0])], 1)


def cut_of_clips(count: int, clips: Sequence[Clip], cuts: Sequence[Cut]) -> Cut:
    """Of a sample's `count` rows: each clip's by its own cut, with weights or none; others stay."""
    anchors = among_all(count, clips, [cut.anchors for cut in cuts])
    if not any(cut.merges for cut in cuts):
        return Cut(anchors)
    weights = torch.zeros(*anchors.shape, count, device=anchors.device)
    stays = torch.ones_like(anchors, dtype=torch.bool)
    first = after = 0
    for clip, cut in zip(clips, cuts, strict=True):
        first += clip.start - after
        end = first + cut.anchors.shape[1]
        if cut.weights is not None and cut.add_anchor is not None:
            weights[:, first:end, clip.start : clip.end] = cut.weights
            stays[:, first:end] = cut.add_anchor
        first, after = end, clip.end
    return Cut(anchors, add_anchor=stays, weights=weights)


def seen_by_clips(
    sizes: Sizes, reads: tuple[AnyRead, ...], see: Callable[[View], Selection]
) -> tuple[EncoderStage, ...]:
    """A stage in the tower for each segment that is frames; of others nothing is seen."""
    kind = kind_of(sizes)
    return tuple(
        EncoderStage("see", reads if s.kind == kind else (), see if s.kind == kind else _nothing)
        for s in sizes.segments
    )


def _nothing(view: View) -> Selection:
    return Selection()


def _between(first: int, last: int, like: Tensor) -> Tensor:
    return torch.arange(first, last, device=like.device).expand(len(like), -1)
