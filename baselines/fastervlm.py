"""FasterVLM: CLS attention is all you need. https://arxiv.org/abs/2412.01818v1 (no venue)

How much the CLS row of the vision tower attends to a patch, averaged over heads, tells what the
image is about. The patches it attends to most are kept, in order, between tower and projector. The
language model sees a shorter sequence with contiguous positions.

B tokens in every layer. Paper and code agree. Several images are ours: each keeps its share. On
LLaVA-NeXT each crop does; they come out row by row of the picture, padding too, without newlines.
Videos are ours: each frame keeps its share (`methods/framewise.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from torch import Tensor

from methods.crops import keep_patches
from methods.interface import Method, Plan, Read, Sizes, View
from methods.registry import register
from methods.tensors import best_in_order


@register("fastervlm")
@dataclass(frozen=True)
class FasterVLM(Method):
    label: ClassVar[str] = "FasterVLM"
    link: ClassVar[str] = "https://arxiv.org/abs/2412.01818v1"
    cuts: ClassVar[str] = "vision tower"
    tower_reads: ClassVar[tuple[Read, ...]] = (Read.CLS_ATTENTION,)
    crops: ClassVar[bool] = True
    merged_reads: ClassVar[tuple[Read, ...]] = tower_reads

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        return keep_patches(budget, sizes, "rank", self.tower_reads, _most_attended)


def _most_attended(view: View, tokens: int) -> Tensor:
    return best_in_order(view[Read.CLS_ATTENTION].mean(1), tokens)
