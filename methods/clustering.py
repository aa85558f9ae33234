"""Clustering of rows by density peaks, as two methods do it."""

from __future__ import annotations

from math import ceil, inf, log2

import torch
from torch import Tensor

from methods.tensors import distances, first_smallest, gather_rows

KERNEL_WIDTH = 8.0
REACH = 0.6


def cluster_in_reach(keys: Tensor, positions: Tensor, share: float) -> Tensor:
    """ViTCoP's Visual Information Clustering: labels int64 [b, n].

    `keys` [b, n, D] of the tower layer, heads side by side; `positions` [b, n, 2] or [n, 2] as
    shares of the image's height and width; `share` of the tokens become centres. Labels are the
    centres' ranks; tokens that lead to no centre (cycles of equal density) form one more cluster.
    """
    n = keys.shape[1]
    index = torch.arange(n, device=keys.device)
    # 0 on the diagonal, as in the published code
    distance = (distances(keys) ** 2 + 1e-8).sqrt().masked_fill(index[:, None] == index, 0.0)
    density = torch.exp(-((distance / KERNEL_WIDTH) ** 2)).sum(-1)
    near = (positions.float()[..., :, None, :] - positions.float()[..., None, :, :]).norm(dim=-1)
    denser = (density[:, None, :] >= density[:, :, None]) & (near <= REACH)
    denser = denser & (index[:, None] != index)
    to_denser = torch.where(denser, distance, inf)
    delta = to_denser.amin(-1)
    parent = first_smallest(to_denser)  # 0 where there is none, all being infinite

    centres = (delta * density).argsort(dim=-1, descending=True, stable=True)
    centres = centres[:, : max(1, int(share * n))]
    ranks = torch.arange(centres.shape[1], device=keys.device).expand_as(centres)
    label = torch.full_like(parent, centres.shape[1]).scatter(1, centres, ranks)
    ancestor = parent.scatter(1, centres, centres)
    for _ in range(ceil(log2(max(n, 2)))):
        ancestor = ancestor.gather(1, ancestor)
    return label.gather(1, ancestor)


def cluster_dpc_knn(rows: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """SparseVLM's clustering of [b, n, D]: centres int64 [b, clusters] by rank, labels [b, n]."""
    n = rows.shape[1]
    index = torch.arange(n, device=rows.device)
    distance = distances(rows) / rows.shape[2] ** 0.5
    nearest = distance.sort(-1).values[..., :clusters]
    density = torch.exp(-(nearest**2).mean(-1))
    earlier = index < index[:, None]
    denser = (density[:, None] > density[..., None]) | (
        (density[:, None] == density[..., None]) & earlier
    )
    apart = torch.where(denser, distance, inf).amin(-1)
    apart = torch.minimum(apart, distance.flatten(1).amax(-1, keepdim=True))
    centres = (apart * density).argsort(dim=-1, descending=True, stable=True)[:, :clusters]
    labels = first_smallest(gather_rows(distance, centres).transpose(1, 2))
    ranks = torch.arange(clusters, device=rows.device).expand_as(centres)
    return centres, labels.scatter(1, centres, ranks)
