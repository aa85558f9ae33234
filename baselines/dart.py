"""DART: keep what is unlike a few pivots. https://arxiv.org/abs/2502.11494 (EMNLP 2025)

Before layer 2 of 32, four visual tokens and four of the text after the image with the largest keys
(L1 norm, all heads, after RoPE) are pivots. Each in turn takes the visual tokens least similar to
it, by the cosine of hidden states after the model's final norm, out of those that are left. Kept
are the visual pivots and all that was taken, at their own positions; no attention is needed.

The code goes through the pivots in the order of a Python set of their places in the prompt, so that
the choice depends on the system prompt's length: `schedule="published"`, with `max_tokens=M`, keeps
that order and 4 + 8·⌊M/8⌋ tokens, "128" being 132. Ours otherwise: by falling size, visual pivots
first; r = (L·B − K·N) / (L − K), of which the first pivots take one more where 8 does not divide
r − 4. With fewer than four tokens after the image, where the code stops, those share (ours).
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
    Plan,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.planning import SCHEDULES, half_up, layers_of, one_of
from methods.registry import register
from methods.tensors import first_true, gather_rows, ranked

PIVOTS = 4  # of each kind
READS = (Read.KEYS, Read.TEXT_KEYS, Read.NORMED_HIDDEN, Read.NORMED_TEXT)
LINEAR_PROBES, ROUNDS = 9, 13  # after 13 rounds a slot has been found for any place below 2^25


def slots_in_set(places: Tensor, present: Tensor, size: int) -> Tensor:
    """Slots int64 [b, n] of ints added in turn to an empty CPython set of `size` slots."""
    slot, perturb, tried = places & (size - 1), places, []
    probes = torch.arange(LINEAR_PROBES + 1, device=places.device)
    for _ in range(ROUNDS):
        inside = slot[..., None] + LINEAR_PROBES < size
        tried.append(torch.where(inside, slot[..., None] + probes, slot[..., None]))
        perturb = perturb >> 5
        slot = (5 * slot + 1 + perturb) & (size - 1)
    taken = torch.zeros(len(places), size, dtype=torch.bool, device=places.device)
    found = []
    for options, there in zip(torch.cat(tried, -1).unbind(1), present.unbind(1), strict=True):
        own = options.gather(1, first_true(~taken.gather(1, options), 1))
        taken = taken.scatter(1, own, there[:, None] | taken.gather(1, own))
        found.append(own)
    return torch.cat(found, 1).masked_fill(~present, size)


def order_of_set(places: Tensor, present: Tensor) -> Tensor:
    """Order int64 [b, n] in which CPython lists a set of 4 to 8 ints, added in turn.

    `places` int64 [b, n ≥ 5]; those not `present` were not added, and come last. With the fifth
    int the set grows from 8 slots to 32, and takes its ints over in the order of their slots.
    """
    index = torch.arange(places.shape[1], device=places.device).expand_as(places)
    small = slots_in_set(places[:, :5], present[:, :5], 8).argsort(dim=1, stable=True)
    order = torch.cat([small, index[:, 5:]], 1)
    grown = slots_in_set(places.gather(1, order), present.gather(1, order), 32)
    grown = order.gather(1, grown.argsort(dim=1, stable=True))
    return torch.where(present[:, 4:5], grown, order)


def unlike(similarity: Tensor, pivots: Tensor, present: Tensor, tokens: int) -> Tensor:
    """Rows kept, ascending: int64 [b, tokens].

    `similarity` float [b, n, v] of each pivot, in their order, to the visual rows; `present` bool
    [b, n]; `pivots` int64 [b, 4]: rows that are pivots themselves.
    """
    batch, count, visual = similarity.shape
    index = torch.arange(visual, device=similarity.device).expand(batch, -1)
    among, free = present.sum(1, keepdim=True), tokens - pivots.shape[1]
    shares = free // among + (index[:, :count] < free % among)
    kept = torch.zeros_like(index, dtype=torch.bool).scatter(1, pivots, True)
    for own, share in zip(similarity.unbind(1), (shares * present).unbind(1), strict=True):
        order = ranked(own.masked_fill(kept, inf)).argsort(dim=1, stable=True)
        rank = torch.empty_like(order).scatter(1, order, index)
        kept = kept | (rank < share[:, None])
    return first_true(kept, tokens)


@register("dart")
@dataclass(frozen=True)
class DART(Method):
    """`max_tokens` is M, of the published schedule only."""

    label: ClassVar[str] = "DART"
    venue: ClassVar[str] = "EMNLP 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2502.11494"
    cuts: ClassVar[str] = "before layer 2"

    schedule: str = "matched"
    max_tokens: int = 128

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        published = self.schedule == "published"
        (k,) = layers_of(self.name, self.schedule, (2,), (None,), sizes.layers)
        wanted = (sizes.layers * budget - k * sizes.tokens) / (sizes.layers - k)
        if published:
            wanted = Fraction(PIVOTS + 8 * (self.max_tokens // 8))
        if not PIVOTS <= wanted <= sizes.tokens:
            return None
        r = half_up(wanted)
        reads = (*READS, Read.ROTARY) if published else READS
        stage = DecoderStage("unlike", k, reads, partial(_keep, tokens=r, as_set=published))
        return Plan(
            entering=(sizes.tokens,) * k + (r,) * (sizes.layers - k),
            decoder=(stage,),
            parameters={"layers": (k,), "tokens": (r,)},
        )


def _largest(keys: Tensor, among: Tensor) -> Tensor:
    sizes = ranked(keys.abs().sum((1, 3))).masked_fill(~among, -inf)
    return sizes.argsort(dim=1, descending=True, stable=True)[:, :PIVOTS]


def _keep(view: View, tokens: int, as_set: bool) -> Selection:
    keys, after = view[Read.KEYS], view.text_after_image
    visual = _largest(keys, torch.ones_like(view.segments, dtype=torch.bool))
    text = _largest(view[Read.TEXT_KEYS], after)
    present = torch.cat([torch.ones_like(visual, dtype=torch.bool), after.gather(1, text)], 1)
    rows = view[Read.NORMED_HIDDEN], view[Read.NORMED_TEXT]
    pivots = torch.cat([gather_rows(rows[0], visual), gather_rows(rows[1], text)], 1)
    if as_set:
        text_places, visual_places, _ = view.rotary
        places = torch.cat([visual_places.gather(1, visual), text_places.gather(1, text)], 1)
        order = order_of_set(places, present)
        pivots, present = gather_rows(pivots, order), present.gather(1, order)
    unit = normalize(rows[0], dim=-1, eps=1e-8)
    similarity = normalize(pivots, dim=-1, eps=1e-8) @ unit.transpose(1, 2)
    return Selection(Cut(unlike(similarity, visual, present, tokens)))
