"""Control: a random sample of the visual tokens, drawn before layer 0.

A method that is no better than this has found nothing. B tokens in every layer, at their own
positions; the sample depends on (seed, item) alone, not on batch, device or dtype. It is drawn on
the device without its generator, whose numbers differ between devices: every place gets a hash of
itself and of (seed, item), and the places of the lowest hashes are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from hashlib import blake2b
from typing import ClassVar

import torch
from torch import Tensor

from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    Plan,
    PruningError,
    Selection,
    Sizes,
    View,
)
from methods.planning import half_up
from methods.registry import register


@register("random")
@dataclass(frozen=True)
class Random(Method):
    """`seed` picks one of many samples of each item."""

    label: ClassVar[str] = "Random"
    cuts: ClassVar[str] = "before layer 0"

    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise PruningError(f"random: seed is from 0 to {2**31 - 1}, not {self.seed}")

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        tokens = max(half_up(budget), 1)
        draw = partial(_draw, seed=self.seed, tokens=tokens)
        return Plan(
            entering=(tokens,) * sizes.layers,
            decoder=(DecoderStage("draw", 0, (), draw),),
            parameters={"layers": (0,), "tokens": (tokens,)},
        )


def _draw(view: View, seed: int, tokens: int) -> Selection:
    place = torch.arange(view.count, device=view.segments.device)
    hashes = torch.stack([_hashed(place, seed, item) for item in view.seeds])
    drawn = hashes.argsort(dim=1, stable=True)[:, :tokens]
    return Selection(Cut(drawn.sort(dim=1).values))


def _hashed(place: Tensor, seed: int, item: int) -> Tensor:
    """int64 of 32 bits: two rounds, each with half of the 64 bits that (seed, item) give."""
    key = blake2b(f"{seed} {item}".encode(), digest_size=8).digest()
    first, second = int.from_bytes(key[:4]), int.from_bytes(key[4:])
    return _mixed(_mixed(place ^ first) ^ second)


def _mixed(bits: Tensor) -> Tensor:
    """An invertible mixing of 32 bits; no product of it overflows an int64."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        bits = (bits ^ (bits >> shift)) * factor & 0xFFFFFFFF
    return bits ^ (bits >> 15)
