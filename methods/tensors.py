"""Pure functions on batched tensors that methods and the runtime share. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from methods.plan import Cut
from methods.sizes import Part

_RANKED: ContextVar[list[Tensor] | None] = ContextVar("ranked", default=None)


@contextmanager
def watching_ranks() -> Iterator[list[Tensor]]:
    """The scores that `ranked` is told of meanwhile: NaN among them has no rank, and sorts all the
    same.
    """
    seen: list[Tensor] = []
    token = _RANKED.set(seen)
    try:
        yield seen
    finally:
        _RANKED.reset(token)


def ranked(scores: Tensor) -> Tensor:
    """`scores`, as they are; a selection that orders them without `best_in_order` says so here."""
    seen = _RANKED.get()
    if seen is not None:
        seen.append(scores)
    return scores


def best_in_order(scores: Tensor, count: int, largest: bool = True) -> Tensor:
    """Indices of the `count` best of `scores` [b, n], ascending: int64 [b, count].

    Of equal scores the lower index wins, on every device.
    """
    order = ranked(scores).argsort(dim=-1, descending=largest, stable=True)
    return order[:, :count].sort(dim=-1).values


def are_best(scores: Tensor, counts: Tensor, largest: bool = True) -> Tensor:
    """bool [..., n]: the `counts` [...] best of each row of `scores`, the lower index of
    equal ones.
    """
    order = ranked(scores).argsort(dim=-1, descending=largest, stable=True)
    return order.argsort(dim=-1) < counts[..., None]


def first_true(flags: Tensor, count: int) -> Tensor:
    """Indices of the first `count` True of `flags` [b, n], ascending: int64 [b, count]."""
    return (~flags).to(torch.uint8).argsort(dim=-1, stable=True)[:, :count]


def last_true(flags: Tensor, count: int) -> Tensor:
    """Indices of the last `count` True of `flags` [b, n], ascending, after those of False."""
    order = flags.to(torch.uint8).argsort(dim=-1, stable=True)
    return order[:, order.shape[1] - count :]


def first_smallest(values: Tensor) -> Tensor:
    """Index of the smallest along the last dimension, the lowest of equal ones: int64 [...]."""
    index = torch.arange(values.shape[-1], device=values.device)
    smallest = ranked(values).amin(-1, keepdim=True)
    return torch.where(values == smallest, index, values.shape[-1]).amin(-1)


def attention_without_rope(query: Tensor, keys: Tensor) -> Tensor:
    """Softmax over visual tokens of q·k/√d, averaged over heads: float32 [b, v].

    `query` float32 [b, H, d] and `keys` float32 [b, H_kv, v, d], both before RoPE.
    """
    keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], 1)
    scores = (keys @ query[..., None])[..., 0] / query.shape[-1] ** 0.5
    return scores.softmax(-1).mean(1)


def index_of(places: Sequence[int], device: torch.device) -> Tensor:
    """int64 [n] of numbers that the host knows.

    The kernels carry them: a list is copied, and the host waits for the device until it is.
    """
    return torch.stack([torch.full((), place, device=device) for place in places])


def row_of(table: Tensor, index: Tensor) -> Tensor:
    """Row `index` [b] of each `table` [b, n, ...]: [b, ...]."""
    return gather_rows(table, index[:, None])[:, 0]


def places_of(part: Part, device: torch.device) -> Tensor:
    """int64 [part.tokens]: which tokens a part has, row by row."""
    row = torch.arange(part.h, device=device)[:, None] * part.row_tokens
    return (part.first + row + torch.arange(part.w, device=device)).flatten()


def of_each_part(
    choose: Callable[..., Tensor], parts: Sequence[Part], counts: Sequence[int], *tables: Tensor
) -> Tensor:
    """Of each part the rows that `choose(*its tables, count)` names: int64 [b, sum(counts)].

    `tables` [b, tokens, ...]. The indices are into all tokens, ascending.
    """
    chosen = []
    for part, count in zip(parts, counts, strict=True):
        own = places_of(part, tables[0].device).expand(len(tables[0]), -1)
        chosen.append(own.gather(1, choose(*(gather_rows(table, own) for table in tables), count)))
    return torch.cat(chosen, 1).sort(1).values


def dealt_out(parts: Tensor, order: Tensor, most: Tensor, total: int) -> Tensor:
    """int64 [b, n] that sum to `total`: `parts` int64 [b, n] of no larger sum, and what is missing
    one by one in the `order` int64 [b, n]; what is over `most` int64 [n] goes, in that order, to
    where there is room.
    """
    parts, most = parts.gather(1, order), most[order]
    missing = total - parts.sum(-1, keepdim=True)
    parts = parts + (torch.arange(parts.shape[1], device=parts.device) < missing)
    parts = torch.minimum(parts, most)
    room = most - parts
    over = total - parts.sum(-1, keepdim=True)
    parts = parts + (over - (room.cumsum(-1) - room)).clamp(min=0).minimum(room)
    return torch.empty_like(parts).scatter_(1, order, parts)


def distances(rows: Tensor) -> Tensor:
    """Euclidean distances between the rows [b, n, D]: float32 [b, n, n], 0 between equal ones.

    From a Gram matrix in float64: in float32 near neighbours would lose their digits, and a
    difference for every pair takes many times as long. What is below its rounding counts as equal.
    """
    wide = rows.double()
    squares = wide.square().sum(-1)
    both = squares[:, :, None] + squares[:, None]
    apart = both - 2 * wide @ wide.transpose(1, 2)
    return torch.where(apart > 1e-12 * both, apart, 0.0).sqrt().float()


def gather_rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [b, k] of `table` [b, n, ...] along dimension 1: [b, k, ...]."""
    wide = index.reshape(*index.shape, *(1,) * (table.dim() - 2))
    return table.gather(1, wide.expand(*index.shape, *table.shape[2:]))


def dense_labels(labels: Tensor) -> Tensor:
    """Rename labels [b, n] to 0 … K−1 in their ascending order, row by row."""
    ordered, order = labels.sort(dim=-1, stable=True)
    steps = torch.zeros_like(ordered)
    steps[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).long().cumsum(-1)
    return torch.empty_like(labels).scatter_(1, order, steps)


def group_means(rows: Tensor, groups: Tensor, count: int) -> Tensor:
    """Mean of the rows [b, n, D] of each group: float32 [b, count, D], 0 for an empty group.

    `groups` int64 [b, n] in −1 … count−1. A product with the membership matrix, so that the order
    of summation is fixed on a GPU too.
    """
    members = groups[:, None] == torch.arange(count, device=groups.device)[:, None]
    sizes = members.sum(-1, keepdim=True).clamp(min=1)
    return members.float() @ rows.float() / sizes


def apply_cut(rows: Tensor, cut: Cut) -> Tensor:
    """What comes out of `cut` for the rows [b, n, D]: [b, out, D] in their dtype."""
    kept = gather_rows(rows, cut.anchors)
    if cut.weights is not None:
        merged = cut.weights.float() @ rows.float()
    elif cut.groups is not None:
        merged = group_means(rows, cut.groups, cut.anchors.shape[1])
    else:
        return kept
    assert cut.add_anchor is not None
    merged = merged + torch.where(cut.add_anchor[..., None], kept.float(), 0.0)
    return merged.to(rows.dtype)
