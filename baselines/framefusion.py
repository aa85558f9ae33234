"""FrameFusion: alike tokens of successive frames become one, and the least attended go.
https://arxiv.org/abs/2501.01986 (ICCV 2025)

Inside decoder layers, between attention and MLP. Tokens that are like the one before them at the
same place of the frames, by a threshold, become one with it: their mean. So it goes layer after
layer until few are alike; in the next layer those leave that the prompt's last token attends to
least. How many are alike is for the video to say: the cost, tokens over all layers together, is
what is asked for. Where so many are alike that merging alone meets it, the most alike merge, and
that is all. Kept rows have the positions they had; a layer that cuts caches all that entered it.

`step` is a layer of the published code, `need` what its cost of 0.3 asks of one: the mean share of
tokens that leave the cuts of 28 layers, whatever the model has: of N tokens, with n left at last,
0.3 N + (N - n) / 28 enter a layer on average. Here B tokens enter each of the model's layers on
average, exactly: later layers go on with what is left of B, rounded up, and one more token leaves
as soon as that has to be rounded down (ours). Where another layer of merging would leave less than
a token for the others, the pruning is at once; the code fails (ours). Of several videos all tokens
are pruned together (ours); newlines within frames are places of a frame, as published, and the
newline behind a video stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate
from math import inf
from operator import mul
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from methods.clips import Clip, clips_of, outside
from methods.interface import (
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
from methods.planning import due, half_up
from methods.registry import register
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


def staying(heads: Tensor) -> Tensor:
    """bool [b, n]: which rows stay, of `heads` as above."""
    return heads == torch.arange(heads.shape[1], device=heads.device)


def cut_of(heads: Tensor) -> Cut:
    """The means of what belongs together, `heads` as above; `Cut.counts` rows stay."""
    stays = staying(heads)
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
    """One layer of the published code on visual tokens [n, d] at `places` int64 [n] in frames.

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
    cut = cut_of(heads).to_first(int(staying(heads).sum()))
    return Step(cut.anchors[0], apply_cut(hidden[None], cut)[0], tuple(shares), finished)


@register("framefusion")
@dataclass(frozen=True)
class FrameFusion(Method):
    """`threshold` (θ) of likeness from which tokens merge; `least` (ε): the share that has to merge
    in a layer for the next to merge, too.
    """

    label: ClassVar[str] = "FrameFusion"
    venue: ClassVar[str] = "ICCV 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2501.01986"
    cuts: ClassVar[str] = "inside the first layers, as data decide"
    of_video: ClassVar[bool] = True
    fewest_frames: ClassVar[int] = 2
    inside_layers: ClassVar[bool] = True

    threshold: float = 0.6
    least: float = 0.1

    def __post_init__(self) -> None:
        if not (self.threshold >= -1 and 0 <= self.least <= 1):
            raise PruningError(
                "framefusion: threshold is a cosine, -1 or more, and least lies in 0 to 1"
            )

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        clips = clips_of(self.label, sizes)
        if any(clip.frames < self.fewest_frames for clip in clips):
            return None
        later, total = sizes.layers - 1, half_up(budget * sizes.layers)
        fewest = outside(sizes, clips) + 1
        if not later or total < sizes.tokens + later * fewest:
            return None
        each, more = divmod(total - sizes.tokens, later)
        reads = (Read.HIDDEN, Read.LAST_ATTENTION)
        select = partial(_fuse, method=self, clips=clips, sizes=sizes, total=total)
        return Plan(
            entering=(sizes.tokens, *(each + (layer < more) for layer in range(later))),
            decoder=tuple(
                DecoderStage("fuse", layer, reads, select, before_mlp=True, by_data=True)
                for layer in range(later)
            ),
            parameters={"total": total},
        )


def _fuse(
    view: View, method: FrameFusion, clips: tuple[Clip, ...], sizes: Sizes, total: int
) -> Selection:
    """`places` in the carry: of frames' rows that in their video, of others -1; `merges`: whether
    the layer merges, the same of all rows.
    """
    places, merges = view.carry.get("places"), view.carry.get("merges")
    if places is None or merges is None:
        places = _places(sizes, clips, view.segments.device).expand_as(view.segments)
        merges = torch.ones_like(places, dtype=torch.bool)
    others = outside(sizes, clips)
    going = due(total, view.entered, view.count, sizes.layers)
    alike = likeness(view[Read.HIDDEN], places).masked_fill(places < 0, -inf)
    found = (alike >= method.threshold).sum(1, keepdim=True)
    later = sizes.layers - len(view.entered) - 1
    most = total - sum(view.entered) - later * (others + 1)
    goes_on = (found >= going) | (view.count - found <= most)
    scores = view[Read.LAST_ATTENTION].mean(1).masked_fill(places < 0, inf)
    heads = torch.where(
        merges[:, :1] & goes_on,
        merged(alike, places, found.clamp(max=going)),
        kept(scores, view.count - going),
    )
    cut = cut_of(heads)
    enough = found >= method.least * (view.count - others)
    left = {
        "places": places.gather(1, cut.anchors),
        "merges": merges & goes_on & (found < going) & enough,
    }
    return Selection(cut, left)


def _places(sizes: Sizes, clips: Sequence[Clip], device: torch.device) -> Tensor:
    """int64 [tokens]: the places of all videos are numbered on."""
    places, first = torch.full((sizes.tokens,), -1, device=device), 0
    for clip in clips:
        own = first + torch.arange(clip.tokens, device=device)
        places[clip.start : clip.end] = own.repeat(clip.frames)
        first += clip.tokens
    return places
