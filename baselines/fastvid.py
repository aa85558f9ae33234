"""FastVID: segments of a video, and density peaks in them. https://arxiv.org/abs/2503.11187
(NeurIPS 2025)

Before layer 0. A video is cut into segments between frames that are unlike. Of every frame the
tokens with the largest attention stay as they are (salient). In every fourth frame of a segment,
counted from its end, peaks of density among the others are anchors: each becomes the weighted mean
of itself and of those tokens of the segment, salient ones left out, that it is most like of the
frame's anchors. Kept rows have the positions they had.

`compress` is the published code's arithmetic, of LLaVA-OneVision and, with `ignored`, of Qwen's.
Its inputs are not to be had here: it takes a frame's feature and its tokens' attention from the
pooling head of the original SigLIP, which LLaVA checkpoints lack. In the place of these stand the
mean of a frame's tokens and what tokens receive of attention in the tower's layer that is used,
pooled as the features are (ours); OneVision's rule is used on every family (ours).

B tokens stay. A segment's remainder, which the code loses, goes to its last anchor frames, and what
F frames do not divide goes to the first frames as salient tokens (ours). Where a frame has too few
tokens left, more frames have anchors (ours). Printed settings are those of 32 frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import inf
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.clips import Clip, clips_of, cut_of_clips, outside, seen_by_clips, shared
from methods.interface import (
    AnyRead,
    Cut,
    DecoderStage,
    Method,
    Plan,
    PruningError,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.registry import register
from methods.segmenting import (
    Counts,
    Places,
    frame_by_frame,
    likeness,
    numbered,
    run_by_run,
    segments_of,
)
from methods.tensors import apply_cut, are_best, distances, first_true

NEIGHBOURS = 4


def chosen(features: Tensor, attention: Tensor, counts: Counts) -> tuple[Tensor, Tensor]:
    """Which tokens are salient, and which are anchors: bool [b, F, T] each.

    `features` float [b, F, T, d], `attention` [b, F, T].
    """
    salient = are_best(attention, counts.salient)
    apart = distances(features.flatten(0, 1)).unflatten(0, features.shape[:2])
    others = (apart / features.shape[-1] ** 0.5).masked_fill(salient[:, :, None], inf)
    nearest = others.sort(-1).values[..., :NEIGHBOURS]
    density = torch.exp(-nearest.square().mean(-1))
    denser = density[:, :, None] > density[..., None]
    furthest = others.masked_fill(salient[..., None] | salient[:, :, None], 0).amax((2, 3))
    to_denser = others.masked_fill(~denser, inf).amin(-1).minimum(furthest[..., None])
    peaks = (to_denser * density).masked_fill(salient, -inf)
    return salient, are_best(peaks, counts.anchors)


def merged(
    features: Tensor, salient: Tensor, anchors: Tensor, sources: Tensor, most: int, own: float
) -> Tensor:
    """What the anchors become: weights float32 [b, F, most, F·T] of all tokens, in their order.

    `sources` bool [b, F, F, T]: which tokens join one of a frame's anchors, of which there are at
    most `most`; an anchor that has n weighs 1 / (n + 1) itself, but no less than `own`.
    """
    place = first_true(anchors.flatten(0, 1), most).unflatten(0, features.shape[:2])
    there, width = anchors.gather(2, place), features.shape[-1]
    unit = normalize(features.float(), dim=-1, eps=1e-8)
    of_anchors = unit.gather(2, place[..., None].expand(-1, -1, -1, width))
    alike = of_anchors @ unit.flatten(1, 2)[:, None].transpose(2, 3)
    joined = alike.masked_fill(~there[..., None], -inf).argmax(2, keepdim=True)
    number = torch.arange(most, device=place.device)[:, None]
    members = (joined == number) & sources.flatten(2)[:, :, None]
    count = members.sum(-1, keepdim=True)
    weight = (1 / (count + 1)).clamp(min=own).masked_fill(count == 0, 1)
    first = torch.arange(place.shape[1], device=place.device)[:, None] * features.shape[2]
    weights = members * ((1 - weight) / count.clamp(min=1))
    return weights.scatter_add(3, (first + place)[..., None], weight)


def _in_segment(segments: Tensor, salient: Tensor) -> Tensor:
    """bool [b, F, F, T]: of each frame the tokens of its segment that are not salient."""
    same = segments[:, :, None] == segments[:, None]
    return same[..., None] & ~salient[:, None]


def cut_to(
    features: Tensor,
    flags: tuple[Tensor, Tensor],
    sources: Tensor,
    most: int,
    own: float,
    rows: int,
) -> Cut:
    """The cut of a clip to its `rows` salient tokens and anchors, `flags` [b, F, T] each, in order.

    `sources`, `most` and `own` as `merged` takes them.
    """
    salient, anchors = flags
    kept = first_true((salient | anchors).flatten(1), rows)
    if most == 0:
        return Cut(kept)
    weights = merged(features, salient, anchors, sources, most, own)
    place = (anchors.cumsum(2) - 1).clamp(min=0)
    first = torch.arange(features.shape[1], device=kept.device)[:, None] * most
    row = (first + place).flatten(1).gather(1, kept)
    made = weights.flatten(1, 2).gather(1, row[..., None].expand(-1, -1, weights.shape[3]))
    stays = salient.flatten(1).gather(1, kept)
    return Cut(kept, add_anchor=stays, weights=made.masked_fill(stays[..., None], 0))


def compress(
    features: Tensor,
    attention: Tensor,
    global_features: Tensor,
    share: float,
    fewest: int,
    threshold: float,
    context: float,
    step: int,
    weight: float,
    ignored: float | None = None,
) -> tuple[Tensor, Tensor]:
    """What the published code makes of a video [F, T, d]: the tokens that stay, int64 [rows] from
    its first, ascending, and what they become, float32 [rows, d].

    `attention` [F, T] of its tokens, `global_features` [F, width] of its frames; the settings are
    printed as r, c, τ, δ, p, β and, for Qwen2.5-VL, ι: frames more alike than this are one run.
    """
    video, tokens = features[None], features.shape[1]
    alike, kept = likeness(global_features[None]), int(tokens * share)
    segments = segments_of(alike, fewest, threshold)
    if ignored is None:
        few = int(kept * context)
        at = Places(torch.ones_like(segments, dtype=torch.bool), segments, step)
        each = few * at.of // at.anchors * at.anchored
        counts = Counts(torch.full_like(segments, kept - few), each)
    else:
        runs = numbered((segments[:, 1:] != segments[:, :-1]) | (alike < ignored))
        counts = run_by_run(segments, runs, kept, context, step, tokens)
    salient, anchors = chosen(video, attention[None], counts)
    sources = _in_segment(segments, salient)
    if ignored is not None:
        frame = torch.arange(len(features), device=features.device)
        sources = sources & ~((frame[:, None] == frame)[..., None] & anchors[:, None])
    most, rows = int(counts.anchors.max()), int((salient | anchors).sum())
    cut = cut_to(video, (salient, anchors), sources, most, weight, rows)
    return cut.anchors[0], apply_cut(video.flatten(1, 2).float(), cut)[0]


@register("fastvid")
@dataclass(frozen=True)
class FastVID(Method):
    """`segments` (c): the fewest; `threshold` (τ) of likeness; `context` (δ): the share of anchors;
    `step` (p): in one of how many frames they are; `weight` (β): the least of an anchor's own.
    """

    label: ClassVar[str] = "FastVID"
    venue: ClassVar[str] = "NeurIPS 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2503.11187"
    cuts: ClassVar[str] = "before layer 0"
    of_video: ClassVar[bool] = True
    tower_reads: ClassVar[tuple[AnyRead, ...]] = (Read.RECEIVED_ATTENTION,)
    crops: ClassVar[bool] = True
    merged_reads: ClassVar[tuple[AnyRead, ...]] = tower_reads

    segments: int = 8
    threshold: float = 0.9
    context: float = 0.4
    step: int = 4
    weight: float = 0.6

    def __post_init__(self) -> None:
        if self.segments < 1 or self.step < 1:
            raise PruningError("fastvid: segments and step are 1 or more")
        if not (0 <= self.context < 1 and 0 <= self.weight <= 1):
            raise PruningError("fastvid: context lies in 0 to 1, without 1, and weight in 0 to 1")

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        clips = clips_of(self.label, sizes)
        totals = shared(budget, sizes, clips)
        if any(total < clip.frames for total, clip in zip(totals, clips, strict=True)):
            return None
        select = partial(_compress, method=self, clips=clips, totals=totals)
        return Plan(
            entering=(outside(sizes, clips) + sum(totals),) * sizes.layers,
            encoder=seen_by_clips(sizes, self.tower_reads, _see),
            decoder=(DecoderStage("compress", 0, (Read.HIDDEN,), select),),
            parameters={"layers": (0,), "tokens": totals},
        )


def _see(view: View) -> Selection:
    return Selection(visual={"attention": view[Read.RECEIVED_ATTENTION].mean(1)})


def _compress(
    view: View, method: FastVID, clips: tuple[Clip, ...], totals: tuple[int, ...]
) -> Selection:
    cuts = []
    for clip, total in zip(clips, totals, strict=True):
        features, attention = (clip.of(t) for t in (view[Read.HIDDEN], view.carry["attention"]))
        cuts.append(compressed(features, attention, method, total))
    return Selection(cut_of_clips(view.count, clips, cuts))


def compressed(features: Tensor, attention: Tensor, method: FastVID, total: int) -> Cut:
    """The cut of a clip [b, F, T, d] to `total` rows."""
    frames, tokens = features.shape[1:3]
    kept, more = divmod(total, frames)
    few = int(kept * method.context)
    salient = kept - few + (torch.arange(frames, device=features.device) < more).long()
    left = tokens - (kept - few) - (more > 0)
    step = min(method.step, max(left // max(few, 1), 1))
    segments = segments_of(likeness(features.float().mean(2)), method.segments, method.threshold)
    counts = frame_by_frame(segments, salient.expand(len(features), -1), few, step)
    flags = chosen(features, attention, counts)
    sources = _in_segment(segments, flags[0])
    return cut_to(features, flags, sources, few * step, method.weight, total)
