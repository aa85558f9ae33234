"""FrameFusion: alike tokens of successive frames become one, and the least attended go.
https://arxiv.org/abs/2501.01986 (ICCV 2025)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from operator import mul

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from methods.interface import Cut, PruningError
from methods.tensors import apply_cut, first_true, gather_rows, ranked


def likeness(hidden: Tensor, places: Tensor) -> Tensor:
    """Cosine of each row to the one before it of the same place, -inf for a place's first: float32
    [b, n]. `hidden` float [b, n, d] in the order of frames, `places` int64 [b, n].
    """
    order = places.argsort(dim=1, stable=True)
    chained, place = gather_rows(hidden.float(), order), places.gather(1, order)
    alike = cosine_similarity(chained[:, 1:], chained[:, :-1], dim=-1)
    alike = alike.masked_fill(place[:, 1:] != place[:, :-1], -inf)
    first = alike.new_full((len(alike), 1), -inf)
    return torch.empty_like(places, dtype=torch.float).scatter(
        1, order, torch.cat([first, alike], 1)
    )


def merged(alike: Tensor, places: Tensor, count: Tensor | int) -> Tensor:
    """The row that each row becomes a part of, int64 [b, n]: of the `count` most `alike`, int64
    [b, 1] or the same of all, the nearest before it of its place that is none of them.
    """
    joins = _rank(alike) < count
    order = places.argsort(dim=1, stable=True)
    place = torch.arange(alike.shape[1], device=alike.device)
    head = torch.where(joins.gather(1, order), 0, place).cummax(1).values
    return torch.empty_like(places).scatter(1, order, order.gather(1, head))


def kept(scores: Tensor, count: Tensor | int) -> Tensor:
    """The same where all but the `count` rows of the best `scores` [b, n] leave: -1 of those."""
    rows = torch.arange(scores.shape[1], device=scores.device)
    return torch.where(_rank(scores) < count, rows, -1)


def _rank(scores: Tensor) -> Tensor:
    """Of each row among its sample's, the best first: int64 [b, n]."""
    order = ranked(scores).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1)


def cut_of(heads: Tensor) -> Cut:
    """The means of what belongs together, `heads` int64 [b, n] as above; `Cut.counts` rows stay."""
    stays = heads == torch.arange(heads.shape[1], device=heads.device)
    out = stays.cumsum(1) - 1
    groups = torch.where(heads < 0, -1, out.gather(1, heads.clamp(min=0)))
    anchors = first_true(stays, stays.shape[1])
    return Cut(anchors, groups, torch.zeros_like(stays), counts=stays.sum(1))


def need(shares: Sequence[float], cost: float, layers: int = 28) -> float:
    """The share of what is left that has to go now, so that on average over so many layers `cost`
    of all tokens leave the cut of a layer. `shares`: what went in the layers so far.

    Raises PruningError where too much was left in these.
    """
    left = list(accumulate((1 - share for share in shares), mul))
    spent, now = sum(left), left[-1] if left else 1.0
    if cost * layers < spent:
        raise PruningError(
            f"{spent:.2f} layers' tokens are spent of {cost:g} in each of {layers} layers"
        )
    return max(0.0, 1 - (cost * layers - spent) / ((layers - len(left)) * now))


@dataclass(frozen=True)
class Step:
    """What a layer of the published code leaves: rows int64 [r] of those it got, their `hidden`
    [r, d], the `shares` merged so far, and whether nothing more goes.
    """

    kept: Tensor
    hidden: Tensor
    shares: tuple[float, ...]
    finished: bool


def step(
    hidden: Tensor,
    places: Tensor,
    shares: Sequence[float],
    attention: Tensor,
    cost: float = 0.3,
    threshold: float = 0.6,
    least: float = 0.1,
) -> Step:
    """One layer of the published code on visual tokens [n, d] at `places` int64 [n] of their frames.

    `attention` [H, n] of the last row, used where a layer merged less than the share `least`.
    Raises PruningError as `need` does.
    """
    rows, own = len(hidden), need(shares, cost)
    alike = likeness(hidden[None], places[None])
    found, finished = int((alike >= threshold).sum()), True
    if shares and shares[-1] < least:
        heads = kept(attention.float().mean(0)[None], round(rows * (1 - own)))
    elif found / rows < own:
        heads, shares, finished = merged(alike, places[None], found), (*shares, found / rows), False
    else:
        heads = merged(alike, places[None], int(own * rows))
    cut = cut_of(heads)
    anchors = cut.anchors[:, : int(cut.counts)]
    whole = Cut(anchors, cut.groups, torch.zeros_like(anchors, dtype=torch.bool))
    return Step(anchors[0], apply_cut(hidden[None], whole)[0], tuple(shares), finished)
