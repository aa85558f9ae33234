"""DivPrune: the most diverse visual tokens. https://arxiv.org/abs/2503.02175 (CVPR 2025)

Tokens that resemble one another tell the model the same thing. The first token chosen is the one
furthest, by cosine, from its nearest neighbour; each next one is furthest from its nearest chosen
one. They are kept in order before layer 0, with contiguous positions.

B tokens in every layer, halves to even. The code masks nothing: where there are fewer different
tokens than it shall choose it chooses some twice and keeps fewer. Here a chosen one is no candidate
again, which changes nothing else. The images of a sample are one set of candidates, as in the
code, whose own prompt fixes where they begin; here the real place counts.

The choice is sequential: B small steps a prefill.
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

from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    NewTokens,
    Plan,
    Positions,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.registry import register
from methods.tensors import row_of


def most_diverse(rows: Tensor, count: int) -> Tensor:
    """Indices of `count` ≥ 1 of the n ≥ 2 rows [b, n, D], as chosen: int64 [b, count]."""
    unit = normalize(rows.float(), dim=-1)
    apart = 1 - unit @ unit.transpose(1, 2)
    # the smallest of a column is the token itself
    chosen = [apart.topk(2, dim=1, largest=False).values[:, 1].argmax(-1)]
    to_chosen = torch.full_like(apart[:, 0], inf)
    for _ in range(count - 1):
        to_chosen = torch.minimum(to_chosen, row_of(apart, chosen[-1]))
        to_chosen = to_chosen.scatter(1, chosen[-1][:, None], -inf)
        chosen.append(to_chosen.argmax(-1))
    return torch.stack(chosen, 1)


@register("divprune")
@dataclass(frozen=True)
class DivPrune(Method):
    label: ClassVar[str] = "DivPrune"
    venue: ClassVar[str] = "CVPR 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2503.02175"
    cuts: ClassVar[str] = "before layer 0"

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        tokens = max(round(budget), 1)
        spread = partial(_spread, tokens=tokens)
        return Plan(
            entering=(tokens,) * sizes.layers,
            decoder=(DecoderStage("diverse", 0, (Read.HIDDEN,), spread, Positions.CONTIGUOUS),),
            new_tokens=NewTokens.ENTERED,
            parameters={"tokens": (tokens,)},
        )


def _spread(view: View, tokens: int) -> Selection:
    return Selection(Cut(most_diverse(view[Read.HIDDEN], tokens).sort(1).values))
