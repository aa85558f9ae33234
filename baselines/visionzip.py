"""VisionZip: longer is better but not necessary. https://arxiv.org/abs/2412.04467 (CVPR 2025)

Everything happens between vision tower and projector. The CLS row and the patches that CLS attends
to most stay as they are (dominant). Of the rest every step-th is a target; each other row goes to
the target that its key is most similar to, and a target's feature plus the mean of those that went
to it is one contextual token. The language model sees [dominant …, contextual …], contiguous.

D dominant (CLS among them) and C contextual tokens: B = D + C in every layer. Published 192 =
162 + 30, 128 = 108 + 20, 64 = 54 + 10; other budgets by the same 10/64 of contextual ones (ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.interface import (
    Cut,
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

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        totals = split(half_up(budget), [segment.tokens for segment in sizes.segments])
        contextual = [max(half_up(total * CONTEXTUAL_SHARE), 1) for total in totals]
        dominant = [total - c for total, c in zip(totals, contextual, strict=True)]
        if min(dominant) < 1:
            return None
        return Plan(
            entering=(sum(totals),) * sizes.layers,
            encoder=tuple(
                EncoderStage(
                    "zip", self.tower_reads, partial(_zip, segment=s, dominant=d, contextual=c)
                )
                for s, d, c in zip(sizes.segments, dominant, contextual, strict=True)
            ),
            new_tokens=NewTokens.ENTERED,
            parameters={"dominant": tuple(dominant), "contextual": tuple(contextual)},
        )


def _zip(view: View, segment: Segment, dominant: int, contextual: int) -> Selection:
    attention, keys = view[Read.CLS_ATTENTION], view[Read.TOWER_KEYS].float()
    has_cls = int(segment.has_cls)
    rows = best_in_order(attention.sum(1), dominant - has_cls) + has_cls
    if segment.has_cls:
        rows = torch.cat([rows.new_zeros(len(rows), 1), rows], 1)
    heads = keys.unflatten(-1, (attention.shape[1], -1))
    return Selection(zip_rows(rows, normalize(heads.mean(2), dim=-1), contextual))
