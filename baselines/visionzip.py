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
the language model gets them, stay where they are. An image has its share of the budget (ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.crops import crop_shares, of_crops, stage_each
from methods.cuts import in_order_of_picture, joined, reordered
from methods.interface import (
    Cut,
    DecoderStage,
    EncoderStage,
    Method,
    NewTokens,
    Plan,
    Read,
    Segment,
    Selection,
    Sizes,
    View,
)
from methods.planning import check_whole, half_up
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
    merged_reads: ClassVar[tuple[Read, ...]] = (Read.RECEIVED_ATTENTION, Read.TOWER_KEYS)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        merged = any(segment.merged > 1 for segment in sizes.segments)
        if merged:
            check_whole(self.label, sizes)
        totals = crop_shares(budget, sizes)
        if totals is None:
            return None
        contextual = [max(half_up(total * CONTEXTUAL_SHARE), 1) for total in totals]
        dominant = [total - c for total, c in zip(totals, contextual, strict=True)]
        if min(dominant) < 1:
            return None
        parameters = {"dominant": tuple(dominant), "contextual": tuple(contextual)}
        if merged:
            lengths = [segment.tokens for segment in sizes.segments]
            select = partial(
                _zip_tokens, counts=tuple(zip(lengths, dominant, contextual, strict=True))
            )
            return Plan(
                entering=(sum(totals),) * sizes.layers,
                encoder=tuple(EncoderStage("see", self.merged_reads, _see) for _ in sizes.segments),
                decoder=(DecoderStage("zip", 0, (Read.HIDDEN,), select),),
                parameters=parameters,
            )
        return Plan(
            entering=(sum(totals),) * sizes.layers,
            encoder=stage_each(
                "zip", self.tower_reads, _zip, list(zip(dominant, contextual, strict=True)), sizes
            ),
            new_tokens=NewTokens.ENTERED,
            parameters=parameters,
        )


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


def _see(view: View) -> Selection:
    heads = view[Read.RECEIVED_ATTENTION]
    metric = view[Read.TOWER_KEYS].unflatten(-1, (heads.shape[1], -1)).mean(2)
    return Selection(visual={"score": heads.mean(1), "metric": metric})


def zip_tokens(score: Tensor, metric: Tensor, dominant: int, contextual: int) -> Cut:
    """The cut of tokens that stay where they are; `score` [b, n], `metric` [b, n, d]."""
    best = best_in_order(score, dominant)
    cut = zip_rows(best, normalize(metric, dim=-1), contextual)
    return reordered(cut, cut.anchors.argsort(1))


def _zip_tokens(view: View, counts: tuple[tuple[int, int, int], ...]) -> Selection:
    """`counts`: tokens, and how many are dominant and contextual, of each image."""
    lengths = [tokens for tokens, _, _ in counts]
    shown = (view.carry[name].split(lengths, 1) for name in ("score", "metric"))
    cuts = [
        zip_tokens(score, metric, dominant, contextual)
        for score, metric, (_, dominant, contextual) in zip(*shown, counts, strict=True)
    ]
    return Selection(joined(cuts, lengths))
