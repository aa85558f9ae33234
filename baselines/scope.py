"""SCOPE: saliency and coverage at once. https://arxiv.org/abs/2510.24214 (NeurIPS 2025)

A set of patches covers each patch as well as its most similar member does. Patches are chosen one
by one: the next is the one whose gain in coverage over all patches, times its saliency, is largest.
Similarity is the cosine of tower features, saliency the attention of the CLS row, added over heads;
the chosen ones go in order through the projector, with contiguous positions.

B tokens in every layer. Saliency has an exponent, 1 where it was published and here. The released
code cuts in the tower only, which is followed; it does not import as it stands, and keeps no CLS
row, although it grew out of VisionZip's, which does. Several images are ours: each keeps its share.
On LLaVA-NeXT each crop does; they come out row by row of the picture, padding too, and no newline.
Videos are ours: each frame keeps its share, and its tokens stand for features
(`methods/framewise.py`).

The choice is sequential: B steps over all pairs of patches a prefill.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.crops import keep_patches
from methods.interface import Method, Plan, Read, Sizes, View
from methods.registry import register
from methods.tensors import row_of


def most_covering(rows: Tensor, saliency: Tensor, count: int) -> Tensor:
    """Indices of `count` of the rows [b, n, D], as chosen: int64 [b, count].

    `saliency` float32 [b, n].
    """
    unit = normalize(rows.float(), dim=-1)
    alike = unit @ unit.transpose(1, 2)
    covered, candidates = torch.zeros_like(saliency), torch.zeros_like(saliency)
    chosen: list[Tensor] = []
    for _ in range(count):
        gain = saliency * (alike - covered[:, None]).relu().sum(-1) + candidates
        chosen.append(gain.argmax(-1))
        covered = torch.maximum(covered, row_of(alike, chosen[-1]))
        candidates = candidates.scatter(1, chosen[-1][:, None], -inf)
    return torch.stack(chosen, 1)


@register("scope")
@dataclass(frozen=True)
class SCOPE(Method):
    label: ClassVar[str] = "SCOPE"
    venue: ClassVar[str] = "NeurIPS 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2510.24214"
    cuts: ClassVar[str] = "vision tower"
    tower_reads: ClassVar[tuple[Read, ...]] = (Read.FEATURES, Read.CLS_ATTENTION)
    crops: ClassVar[bool] = True
    merged_reads: ClassVar[tuple[Read, ...]] = (Read.CLS_ATTENTION,)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        return keep_patches(budget, sizes, "cover", self.tower_reads, _cover)


def _cover(view: View, tokens: int) -> Tensor:
    patches, saliency = view[Read.FEATURES][:, -view.count :], view[Read.CLS_ATTENTION].sum(1)
    return most_covering(patches, saliency, tokens).sort(1).values
