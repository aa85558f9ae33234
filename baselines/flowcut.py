"""FlowCut: redundancy as seen by information flow. https://arxiv.org/abs/2505.19536 (NeurIPS 2025)

Rows leave between the vision tower's layers, so that its later layers run on fewer. A patch's score
is what CLS attends to in it, plus how like its value is to CLS's, times the size of its value; the
score runs on from layer to layer as the mean of itself and the new one. After every second layer
more patches leave the flatter CLS's attention is not, and before the last layer that is used just
the budget stays. The language model sees a plain shorter sequence, contiguous.

How many rows leave in between depends on the data; how many enter the language model does not. In
a batch the published code drops as many of every image as of the one that drops most; here each
image goes by itself (ours), so that a batch gives what its samples give. Ours, too: a tower without
CLS takes the mean over all rows as the asking row; several images share the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from methods.interface import (
    Cut,
    Method,
    NewTokens,
    Plan,
    Read,
    Segment,
    Selection,
    Sizes,
    TowerStage,
    View,
)
from methods.planning import half_up, split
from methods.registry import register
from methods.tensors import best_in_order, first_true, ranked

TINY = torch.finfo(torch.float32).tiny


@register("flowcut")
@dataclass(frozen=True)
class FlowCut(Method):
    label: ClassVar[str] = "FlowCut"
    venue: ClassVar[str] = "NeurIPS 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2505.19536"
    cuts: ClassVar[str] = "inside the vision tower"
    inside_tower: ClassVar[bool] = True

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        totals = split(half_up(budget), [segment.tokens for segment in sizes.segments])
        if min(totals) < 1 or sizes.feature_layer < 1:
            return None
        return Plan(
            entering=(sum(totals),) * sizes.layers,
            tower=tuple(
                tuple(_stage(layer, segment, tokens, sizes) for layer in range(sizes.feature_layer))
                for segment, tokens in zip(sizes.segments, totals, strict=True)
            ),
            new_tokens=NewTokens.ENTERED,
            parameters={"tokens": tuple(totals)},
        )


def _stage(layer: int, segment: Segment, tokens: int, sizes: Sizes) -> TowerStage:
    left = sizes.feature_layer - layer - 1
    select = partial(_flow, has_cls=int(segment.has_cls), tokens=tokens, left=left)
    return TowerStage("flow", layer, (Read.CLS_ATTENTION, Read.VALUES), select)


def _flow(view: View, has_cls: int, tokens: int, left: int) -> Selection:
    """`left`: layers in which rows may still leave after this one."""
    attention = _shares(view[Read.CLS_ATTENTION].mean(1))
    score = flow_scores(attention, view[Read.VALUES], _valid(view), has_cls)
    if "flow" in view.carry:
        score = (view.carry["flow"] + score) / 2
    if left % 2:
        return Selection(visual={"flow": score})
    shown = score.masked_fill(~_valid(view), -torch.inf)
    if left:
        present = _valid(view).sum(1) - has_cls
        stay = (present - _dropped(attention, present, tokens, left)).clamp(min=tokens)
        cut = _keep(shown, stay + has_cls)
    else:
        cut = Cut(best_in_order(shown, tokens + has_cls))
    return Selection(cut, visual={"flow": score.gather(1, cut.anchors)})


def flow_scores(attention: Tensor, values: Tensor, valid: Tensor, has_cls: int) -> Tensor:
    """Scores float32 [b, rows] from CLS's attention [b, patches], shares that sum to 1, and values
    [b, H, rows, d]; infinite for CLS.
    """
    asking = values[:, :, :1] if has_cls else values
    alike = (asking @ values.transpose(2, 3)).masked_fill(~valid[:, None, None], -torch.inf)
    echo = alike.softmax(-1)
    if has_cls:
        mean_echo = echo[:, :, 0]
    else:
        asked = valid[:, None, :, None].float()
        mean_echo = (echo * asked).sum(2) / asked.sum(2)
    sizes = values.mean(1).abs().sum(-1)[:, has_cls:]
    scores = (attention + _shares(mean_echo.mean(1)[:, has_cls:])) * sizes
    return pad(scores, (has_cls, 0), value=torch.inf)


def _keep(scores: Tensor, counts: Tensor) -> Cut:
    """The cut to as many of the best of `scores` [b, rows] as `counts` int64 [b] says, in order."""
    order = ranked(scores).argsort(dim=1, descending=True, stable=True)
    index = torch.arange(scores.shape[1], device=scores.device)
    best = torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, index < counts[:, None])
    return Cut(first_true(best, scores.shape[1]), counts=counts)


def _dropped(attention: Tensor, present: Tensor, tokens: int, left: int) -> Tensor:
    """int64 [b]: patches that leave, more of them the less evenly CLS attends."""
    evenness = torch.special.entr(attention).sum(1) / present.clamp(min=2).float().log()
    share = (present - tokens).float() / sqrt(left) * (1 - evenness**2)
    return share.round().long()


def _shares(weights: Tensor) -> Tensor:
    return weights / weights.sum(1, keepdim=True).clamp(min=TINY)


def _valid(view: View) -> Tensor:
    assert view.valid is not None
    return view.valid
