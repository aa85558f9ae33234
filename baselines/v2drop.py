"""V²Drop: tokens that a layer hardly changes. https://arxiv.org/abs/2509.01552 (CVPR 2026)

Before layers 3, 17 and 22 of 32 the visual tokens are ranked by how far the layer that has just run
moved them, the L2 norm of the difference. Those that moved most stay, at their own positions: half,
half of these, and at last one. No attention weights are needed.

Published are the ratios 0.5, 0.5 and 0 alone (`schedule="published"`). Ours for other budgets: one
ratio λ for the first two cuts, ⌊λN⌋ and ⌊λ⌊λN⌋⌋ tokens, and one token after the last. So with 32
layers and 576 tokens 55 to 396 are feasible.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

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
from methods.planning import SCHEDULES, layers_of, nearest_count, one_of
from methods.registry import register
from methods.tensors import best_in_order

LAYERS = (3, 17, 22)
PUBLISHED = Fraction(1, 2)
READS = (Read.HIDDEN, Read.PREVIOUS_HIDDEN)


def left(tokens: int, ratio: Fraction) -> tuple[int, int, int, int]:
    """Visual tokens at first and after each cut."""
    half = max(1, int(ratio * tokens))
    return tokens, half, max(1, int(ratio * half)), 1


def entering(counts: tuple[int, ...], layers: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Visual tokens entering each layer, with `counts` at first and from each of `layers` on."""
    bounds = zip(counts, (0, *layers), (*layers, depth), strict=True)
    return tuple(count for count, start, end in bounds for _ in range(end - start))


@register("v2drop")
@dataclass(frozen=True)
class V2Drop(Method):
    label: ClassVar[str] = "V²Drop"
    venue: ClassVar[str] = "CVPR 2026"
    link: ClassVar[str] = "https://arxiv.org/abs/2509.01552"
    cuts: ClassVar[str] = "before layers 3, 17 and 22"

    schedule: str = "matched"

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        depth, total = sizes.layers, sizes.layers * budget
        layers = layers_of(self.name, self.schedule, LAYERS, (None,) * 3, depth)

        def counted(ratio: Fraction) -> int:
            return sum(entering(left(sizes.tokens, ratio), layers, depth))

        if self.schedule == "published":
            return self._plan(sizes, layers, PUBLISHED)
        if not counted(Fraction(0)) <= total <= counted(Fraction(1)):
            return None
        ratio = nearest_count(counted, total, Fraction(0), Fraction(1))
        return self._plan(sizes, layers, ratio)

    def _plan(self, sizes: Sizes, layers: tuple[int, ...], ratio: Fraction) -> Plan:
        counts = left(sizes.tokens, ratio)
        return Plan(
            entering=entering(counts, layers, sizes.layers),
            decoder=tuple(
                DecoderStage(f"drop{j}", layer, READS, partial(_keep_moved, tokens=tokens))
                for j, (layer, tokens) in enumerate(zip(layers, counts[1:], strict=True), 1)
            ),
            parameters={"layers": layers, "ratio": float(ratio), "tokens": counts[1:]},
        )


def _keep_moved(view: View, tokens: int) -> Selection:
    moved = view[Read.HIDDEN].float() - view[Read.PREVIOUS_HIDDEN].float()
    return Selection(Cut(best_in_order(moved.norm(dim=-1), tokens)))
