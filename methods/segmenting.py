"""Segments of a video, and how many tokens each of their frames keeps, as FastVID has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from methods.tensors import ranked


@dataclass(frozen=True)
class Counts:
    """How many tokens of each frame are salient, and how many are anchors: int64 [b, F]."""

    salient: Tensor
    anchors: Tensor


def likeness(frames: Tensor) -> Tensor:
    """Cosine of each frame's feature, [b, F, d], to the next one's: float32 [b, F − 1]."""
    return cosine_similarity(frames[:, :-1].float(), frames[:, 1:].float(), dim=-1)


def segments_of(alike: Tensor, fewest: int, threshold: float) -> Tensor:
    """The segment of each frame: int64 [b, F], rising.

    A new one begins after a frame whose likeness to the next, of `alike` [b, F − 1], is below the
    threshold, or among the `fewest` − 1 smallest.
    """
    rank = ranked(alike).argsort(dim=1, stable=True).argsort(dim=1)
    return numbered((rank < fewest - 1) | (alike < threshold))


def numbered(ends: Tensor) -> Tensor:
    """Of each frame how many of the `ends` bool [b, F − 1] lie before it: int64 [b, F]."""
    return torch.cat([ends.new_zeros(len(ends), 1), ends], 1).cumsum(1)


class Places:
    """Where some frames, bool [b, F], stand among those of their segments: int64 [b, F] each.

    `of`: how many there are; `after`: how many of them come later; `anchors`: how many of them have
    anchors, the last of a segment and every `step`-th before it, which are `anchored` bool [b, F].
    """

    def __init__(self, some: Tensor, segments: Tensor, step: int) -> None:
        own = (segments[:, :, None] == segments[:, None]) & some[:, None]
        self.of = own.sum(2)
        self.after = own.triu(1).sum(2)
        self.anchored = some & (self.after % step == 0)
        self.anchors = (self.of + step - 1) // step
        self.anchors_after = self.after // step


def parted(total: Tensor, among: Tensor, place: Tensor) -> Tensor:
    """Whole parts of a total, of which the first places have one more."""
    return total // among + (place < total % among)


def frame_by_frame(segments: Tensor, salient: Tensor, context: int, step: int) -> Counts:
    """`salient` [b, F] of each frame, and `context` anchors a frame, all of a segment's in few of
    its frames.
    """
    at = Places(torch.ones_like(segments, dtype=torch.bool), segments, step)
    return Counts(salient, parted(context * at.of, at.anchors, at.anchors_after) * at.anchored)


def run_by_run(
    segments: Tensor, runs: Tensor, kept: int, context: float, step: int, tokens: int
) -> Counts:
    """As the code counts on Qwen2.5-VL, with `kept` of a frame's `tokens`: only the last frame of
    each run keeps any.
    """
    ends = runs[:, 1:] != runs[:, :-1]
    last = torch.cat([ends, torch.ones_like(segments[:, :1], dtype=torch.bool)], 1)
    at, length = Places(last, segments, step), (segments[:, :, None] == segments[:, None]).sum(2)
    merged = (kept * length * context).long().clamp(min=1)
    anchors = parted(merged, at.anchors, at.anchors_after) * at.anchored
    anchors = anchors.clamp(max=tokens // 2)
    salient = parted(kept * length - merged, at.of, at.of - 1 - at.after) * last
    return Counts(salient.minimum(tokens - anchors), anchors)
