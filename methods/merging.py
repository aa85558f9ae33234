"""Which rows stay, and which are merged into one another: ViTCoP's co-pruning, VScan's means."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.errors import PruningError
from methods.plan import Cut
from methods.tensors import dense_labels, first_smallest, first_true, gather_rows


def coprune(hidden: Tensor, norms: Tensor, labels: Tensor, tokens: int) -> Cut:
    """Visual-textual co-pruning of `hidden` [b, n, D] to `tokens` rows.

    `norms` float [b, n]: key norms, smaller is more important; `labels` int64 [b, n]: clusters.
    With more clusters than tokens whole clusters merge; otherwise each keeps its quota of tokens
    and merges the rest. Merged rows lie at the middle member of their group.
    Raises PruningError where `tokens` is not in 1 … n.
    """
    n = hidden.shape[1]
    if not 1 <= tokens <= n or norms.shape != hidden.shape[:2] or labels.shape != norms.shape:
        raise PruningError(f"co-pruning needs 1 to {n} tokens and norms and labels for each row")
    norms, labels = norms.float(), dense_labels(labels)
    index = torch.arange(n, device=hidden.device)
    members = labels[:, None, :] == index[:, None]  # [b, clusters, n]
    sizes = members.sum(-1)
    sums = (members.float() @ norms[..., None])[..., 0].masked_fill(sizes == 0, inf)
    order = sums.argsort(dim=-1, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, index.expand_as(order))
    clusters = (sizes > 0).sum(-1, keepdim=True)

    same = labels[:, :, None] == labels[:, None, :]
    ahead = (norms[:, None, :] < norms[:, :, None]) | (
        (norms[:, None, :] == norms[:, :, None]) & (index < index[:, None])
    )
    rank_in_cluster = (same & ahead).sum(-1)
    kept = rank_in_cluster < _quotas(sizes, sums, clusters, tokens).gather(1, labels)
    kept = kept & (clusters <= tokens)
    merged_into = torch.where(clusters > tokens, rank.clamp(max=tokens - 1), rank)
    return _as_cut(torch.where(kept, n + index, merged_into.gather(1, labels)), kept, tokens)


def _quotas(sizes: Tensor, sums: Tensor, clusters: Tensor, tokens: int) -> Tensor:
    """How many of its tokens each cluster keeps: int64 [b, clusters], summing to tokens − K."""
    most = (sizes - 1).clamp(min=0)
    free, wanted = most.sum(-1, keepdim=True).clamp(min=1), tokens - clusters
    quota = torch.minimum((most.float() / free.float() * wanted.float()).round().long(), most)
    missing = wanted - quota.sum(-1, keepdim=True)
    gains = _first_by(sums, quota < most, missing)
    losses = _first_by(-sums, quota > 0, -missing)
    return quota + gains.long() - losses.long()


def _first_by(keys: Tensor, eligible: Tensor, count: Tensor) -> Tensor:
    """The first `count` [b, 1] of the eligible entries in ascending order of `keys`: bool."""
    order = keys.argsort(dim=-1, stable=True)
    chosen = eligible.gather(1, order)
    chosen = chosen & (chosen.long().cumsum(-1) <= count)
    return torch.empty_like(chosen).scatter_(1, order, chosen)


def _as_cut(group_of: Tensor, kept: Tensor, tokens: int) -> Cut:
    """The cut of groups named by `group_of` [b, n]: anchored at the middle, in position order."""
    same = group_of[:, :, None] == group_of[:, None, :]
    place = same.tril(-1).sum(-1)
    is_anchor = place == same.sum(-1) // 2
    output_row = is_anchor.long().cumsum(-1) - 1
    anchor = (same & is_anchor[:, None, :]).to(torch.uint8).argmax(-1)
    anchors = first_true(is_anchor, tokens)
    return Cut(anchors, output_row.gather(1, anchor), ~kept.gather(1, anchors))


def averaged(rows: Tensor, image: Tensor, kept: Tensor) -> Cut:
    """The cut of rows [b, n, D] to means around those `kept` int64 [b, m], image by image."""
    unit = normalize(rows.float(), dim=-1)
    alike = unit @ gather_rows(unit, kept).transpose(1, 2)
    apart = image[..., None] != image.gather(1, kept)[:, None]
    groups = first_smallest(-alike.masked_fill(apart, -inf))
    own = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    return Cut(kept, groups.scatter(1, kept, own), torch.zeros_like(kept, dtype=torch.bool))
