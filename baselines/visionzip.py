"""VisionZip: longer is better but not necessary. https://arxiv.org/abs/2412.04467 (CVPR 2025)

Everything happens between vision tower and projector. The CLS row and the patches that CLS attends
to most stay as they are (dominant). Of the rest every step-th is a target; each other row goes to
the target that its key is most similar to, and a target's feature plus the mean of those that went
to it is one contextual token. The language model sees [dominant …, contextual …], contiguous.

D dominant (CLS among them) and C contextual tokens: B = D + C in every layer. Published 192 =
162 + 30, 128 = 108 + 20, 64 = 54 + 10; other budgets by the same 10/64 of contextual ones (ours).

LLaVA-NeXT: each crop is cut by itself, padding too, and has an equal share of the budget, 640 being
5 · (108 + 20). The whole image comes first, as above; then the dominant patches of all crops row by
row of the picture, their CLS rows, their contextual tokens. No newline stays.

Qwen2.5-VL, as LLMC+ has it: tokens are ranked by what their patches receive of attention in the
tower's last layer, and compared by its keys; those that stay, and the targets, which are merged as
the language model gets them, stay where they are. An image, or a video as a whole, has its share of
the budget (ours).

Videos on LLaVAs are ours: no code is published. Each frame is zipped by itself, with its share, on
the tokens that the language model gets of it, by what the tower's CLS row, or its rows on average,
attends to, pooled as features are. Video-LLaVA's CLS rows are dominant; a newline at the end stays,
and so do images beside a video.
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

from methods.clips import numbering
from methods.crops import of_crops, patches_of_crops, stage_each
from methods.cuts import in_order_of_picture, joined, reordered
from methods.framewise import shown_as_tokens
from methods.interface import (
    Cut,
    DecoderStage,
    EncoderStage,
    Method,
    Newline,
    NewTokens,
    Plan,
    Read,
    Segment,
    Selection,
    Sizes,
    View,
)
from methods.planning import half_up, split
from methods.registry import register
from methods.tensors import best_in_order, first_true, gather_rows

CONTEXTUAL_SHARE = Fraction(10, 64)


def zip_rows(dominant: Tensor, metric: Tensor, contextual: int) -> Cut:
    """The cut to dominant rows int64 [b, D] (ascending) and `contextual` merged ones.

    `metric` float [b, rows, d], rows of unit length.
    """
    batch, rows, _ = metric.shape
    rest_mask = torch.ones(batch, rows, dtype=torch.bool, device=metric.device)
    rest_mask.scatter_(1, dominant, False)
    rest = first_true(rest_mask, rows - dominant.shape[1])
    step = max(1, rest.shape[1] // contextual)
    targets = rest[:, ::step][:, :contextual]

    similarity = metric @ gather_rows(metric, targets).transpose(1, 2)
    kept, merged = dominant.shape[1], targets.shape[1]
    groups = kept + similarity.argmax(-1)
    groups.scatter_(1, targets, -1)
    own = torch.arange(kept, device=metric.device).expand(batch, -1)
    groups.scatter_(1, dominant, own)
    add_anchor = torch.arange(kept + merged, device=metric.device) >= kept
    return Cut(torch.cat([dominant, targets], 1), groups, add_anchor.expand(batch, -1))


@register("visionzip")
@dataclass(frozen=True)
class VisionZip(Method):
    label: ClassVar[str] = "VisionZip"
    venue: ClassVar[str] = "CVPR 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2412.04467"
    cuts: ClassVar[str] = "vision tower"
    tower_reads: ClassVar[tuple[Read, ...]] = (Read.FEATURES, Read.CLS_ATTENTION, Read.TOWER_KEYS)
    crops: ClassVar[bool] = True
    merged_reads: ClassVar[tuple[Read, ...]] = (Read.CLS_ATTENTION, Read.TOWER_KEYS)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        if shown_as_tokens(sizes):
            return self._of_tokens(budget, sizes)
        counts = _dealt(half_up(budget), patches_of_crops(sizes))
        if counts is None:
            return None
        return Plan(
            entering=(sum(map(sum, counts)),) * sizes.layers,
            encoder=stage_each("zip", self.tower_reads, _zip, counts, sizes),
            new_tokens=NewTokens.ENTERED,
            parameters=_parameters(counts),
        )

    def _of_tokens(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        """Where tokens are zipped as the language model gets them."""
        lengths = [length for segment in sizes.segments for length in _views(segment)]
        whole = sizes.tokens - sum(lengths)
        counts = _dealt(half_up(budget) - whole, lengths)
        if counts is None:
            return None
        dealt = iter(counts)
        units: list[tuple[int, int, int]] = []
        for segment in sizes.segments:
            views = _views(segment)
            units += [(length, *next(dealt)) for length in views]
            if stays := segment.tokens - sum(views):
                units.append((stays, stays, 0))
        positions, new_tokens = numbering(sizes)
        select = partial(_zip_tokens, counts=tuple(units))
        return Plan(
            entering=(whole + sum(map(sum, counts)),) * sizes.layers,
            encoder=tuple(map(_seeing, sizes.segments)),
            decoder=(DecoderStage("zip", 0, (Read.HIDDEN,), select, positions),),
            new_tokens=new_tokens,
            parameters=_parameters(counts),
        )


def _dealt(total: int, lengths: list[int]) -> list[tuple[int, int]] | None:
    """Dominant and contextual tokens of each view; None where one would have none of either."""
    totals = split(max(total, 1), lengths)
    if any(own > most for own, most in zip(totals, lengths, strict=True)):
        return None
    contextual = [max(half_up(own * CONTEXTUAL_SHARE), 1) for own in totals]
    dominant = [own - c for own, c in zip(totals, contextual, strict=True)]
    return list(zip(dominant, contextual, strict=True)) if min(dominant) >= 1 else None


def _parameters(counts: list[tuple[int, int]]) -> dict[str, object]:
    dominant, contextual = zip(*counts, strict=True)
    return {"dominant": dominant, "contextual": contextual}


def _views(segment: Segment) -> list[int]:
    """Tokens of each of its parts that are zipped by themselves: the frames of a video, of a Qwen's
    the whole.
    """
    if segment.merged > 1:
        return [segment.tokens]
    return [segment.frame_tokens] * segment.t if segment.kind == "video" else []


def _zip(view: View, segment: Segment, crops: tuple[tuple[int, int], ...]) -> Selection:
    """`crops`: dominant and contextual rows of each."""
    cuts = [_zip_crop(*own) for own in zip(of_crops(view, len(crops)), crops, strict=True)]
    if segment.crops is None:
        return Selection(cuts[0])
    return Selection(in_order_of_picture(cuts, [dominant for dominant, _ in crops], segment))


def _zip_crop(view: View, counts: tuple[int, int]) -> Cut:
    attention, keys = view[Read.CLS_ATTENTION], view[Read.TOWER_KEYS].float()
    dominant, contextual = counts
    has_cls = keys.shape[1] - attention.shape[-1]
    rows = best_in_order(attention.sum(1), dominant - has_cls) + has_cls
    if has_cls:
        rows = torch.cat([rows.new_zeros(len(rows), 1), rows], 1)
    heads = keys.unflatten(-1, (attention.shape[1], -1))
    return zip_rows(rows, normalize(heads.mean(2), dim=-1), contextual)


def _seeing(segment: Segment) -> EncoderStage:
    reads = VisionZip.merged_reads if _views(segment) else ()
    return EncoderStage("see", reads, partial(_see, segment=segment))


def _see(view: View, segment: Segment) -> Selection:
    heads = view[Read.CLS_ATTENTION]
    metric = view[Read.TOWER_KEYS].unflatten(-1, (heads.shape[1], -1)).mean(2)
    score = heads.mean(1)
    if segment.newline is Newline.FRAME:
        score[:, :: segment.frame_tokens] = inf  # CLS rows are dominant
    return Selection(visual={"score": score, "metric": metric})


def zip_tokens(score: Tensor, metric: Tensor, dominant: int, contextual: int) -> Cut:
    """The cut of tokens that stay where they are; `score` [b, n], `metric` [b, n, d]."""
    if contextual == 0:
        everyone = torch.arange(dominant, device=score.device).expand(len(score), -1)
        return Cut(everyone, everyone, torch.zeros_like(everyone, dtype=torch.bool))
    best = best_in_order(score, dominant)
    cut = zip_rows(best, normalize(metric, dim=-1), contextual)
    return reordered(cut, cut.anchors.argsort(1))


def _zip_tokens(view: View, counts: tuple[tuple[int, int, int], ...]) -> Selection:
    """`counts`: tokens, and how many of them are dominant and contextual, of each view in turn."""
    lengths = [tokens for tokens, _, _ in counts]
    shown = (view.carry[name].split(lengths, 1) for name in ("score", "metric"))
    cuts = [
        zip_tokens(score, metric, dominant, contextual)
        for score, metric, (_, dominant, contextual) in zip(*shown, counts, strict=True)
    ]
    return Selection(joined(cuts, lengths))
