"""Control: every (N/B)-th patch in reading order, before layer 0.

Patch ⌊(i + ½)·N/B⌋ for i = 0 … B−1, at their own positions: B tokens in every layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch

from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    Plan,
    Selection,
    Sizes,
    View,
)
from methods.planning import half_up
from methods.registry import register


@register("uniform")
@dataclass(frozen=True)
class Uniform(Method):
    label: ClassVar[str] = "Uniform"
    cuts: ClassVar[str] = "before layer 0"

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        tokens = max(half_up(budget), 1)
        return Plan(
            entering=(tokens,) * sizes.layers,
            decoder=(DecoderStage("stride", 0, (), partial(_stride, tokens=tokens)),),
            parameters={"layers": (0,), "tokens": (tokens,)},
        )


def _stride(view: View, tokens: int) -> Selection:
    i = torch.arange(tokens, device=view.segments.device)
    patch = (2 * i + 1) * view.count // (2 * tokens)
    return Selection(Cut(patch.expand(len(view.segments), -1)))
