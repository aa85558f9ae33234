"""Cuts that methods with stages in the vision tower make of videos, frame by frame, and of images
whose tower merges patches. All of this is ours: nothing is published.

The tower shows the attention of the tokens that the language model gets of a frame. It is carried
to a stage before layer 0, which chooses of each frame by itself, as of an image; the tokens stand
for the tower's features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

from torch import Tensor

from methods.clips import Clip, among_all, numbering, outside
from methods.plan import Cut, DecoderStage, EncoderStage, Plan, Selection
from methods.planning import half_up, shares
from methods.reads import AnyRead, Read, View
from methods.sizes import Segment, Sizes

Choose = Callable[[View, tuple[Segment, ...], int], Tensor]
Frame = tuple[Segment, Clip]


def is_shown_as_tokens(segment: Segment) -> bool:
    """Whether the tower shows the language model's tokens of it, and not its own rows."""
    return segment.merged > 1 or segment.kind == "video"


def shown_as_tokens(sizes: Sizes) -> bool:
    """Whether it shows those of any segment; what it has beside them stays whole."""
    return any(map(is_shown_as_tokens, sizes.segments))


def keep_of_frames(
    budget: Fraction, sizes: Sizes, stage: str, reads: tuple[AnyRead, ...], choose: Choose
) -> Plan | None:
    """A plan that keeps tokens of frames before layer 0, each frame its share of the budget.

    `choose(view, segments, tokens)`: which of a frame's tokens, int64 [b, tokens]; they go on in
    the order in which they stand. `reads` are by patch, or features. A CLS row among a frame's
    tokens is dropped; newlines at the end, and images beside a video, stay. None where a frame
    would keep none.
    """
    frames = tuple(_frames(sizes))
    whole = outside(sizes, [clip for _, clip in frames])
    counts = shares(half_up(budget) - whole, [segment.h * segment.w for segment, _ in frames])
    if counts is None:
        return None
    seen = tuple(read for read in reads if read is not Read.FEATURES)
    select = partial(_keep, frames=frames, counts=counts, reads=seen, choose=choose)
    hidden = (Read.HIDDEN,) if Read.FEATURES in reads else ()
    positions, new_tokens = numbering(sizes)
    return Plan(
        entering=(whole + sum(counts),) * sizes.layers,
        encoder=tuple(_seeing(segment, seen) for segment in sizes.segments),
        decoder=(DecoderStage(stage, 0, hidden, select, positions),),
        new_tokens=new_tokens,
        parameters={"tokens": counts},
    )


def _frames(sizes: Sizes) -> Iterator[Frame]:
    start = 0
    for segment in sizes.segments:
        if is_shown_as_tokens(segment):
            for i in range(segment.t):
                first = start + i * segment.frame_tokens
                yield segment, Clip(first, 1, segment.frame_tokens)
        start += segment.tokens


def _seeing(segment: Segment, reads: tuple[AnyRead, ...]) -> EncoderStage:
    own = reads if is_shown_as_tokens(segment) else ()
    return EncoderStage("see", own, partial(_see, reads=own))


def _see(view: View, reads: tuple[AnyRead, ...]) -> Selection:
    return Selection(visual={_name(read): view[read].transpose(1, 2) for read in reads})


def _name(read: AnyRead) -> str:
    return f"{read} in the tower"


def _keep(
    view: View,
    frames: Sequence[Frame],
    counts: tuple[int, ...],
    reads: tuple[AnyRead, ...],
    choose: Choose,
) -> Selection:
    kept = []
    for (segment, clip), tokens in zip(frames, counts, strict=True):
        cls = clip.tokens - segment.h * segment.w
        own = _of_frame(view, slice(clip.start + cls, clip.end), reads)
        kept.append(cls + choose(own, (segment,), tokens).sort(1).values)
    return Selection(Cut(among_all(view.count, [clip for _, clip in frames], kept)))


def _of_frame(view: View, own: slice, reads: tuple[AnyRead, ...]) -> View:
    """What a stage in the tower would see of an image."""
    shown = {read: view.carry[_name(read)][:, own].transpose(1, 2) for read in reads}
    if Read.HIDDEN in view.reads:
        shown[Read.FEATURES] = view[Read.HIDDEN][:, own]
    segments = view.segments[:, own]
    return replace(view, count=segments.shape[1], segments=segments, reads=shown)
