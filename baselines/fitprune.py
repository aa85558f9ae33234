"""FitPrune: a list of what each layer loses. https://arxiv.org/abs/2409.10197 (AAAI 2025)

Before every layer the visual tokens go that the layer before it attended to least: the product of
what a token gets from the visual rows and what it gets from the rows after the image, each the sum
of attention weights at their maximum over heads. How many is a fixed list, calibrated once on
LLaVA-1.5-7B's attention statistics for a share of FLOPs to save. All stay at their own positions.

The code drops after a layer's attention and before its MLP, which is a cut before the next layer.
Its lists are `schedule="published"` with `percent`. Ours for other budgets: the tokens entering
each layer lie linearly between those of the two neighbouring lists; at other depths and token
counts the lists are stretched. With 32 layers and 576 tokens 73 and more are feasible.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate, pairwise
from typing import ClassVar

from torch import Tensor

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
from methods.planning import SCHEDULES, half_up, one_of
from methods.registry import register
from methods.tensors import ranked

# fmt: off
DROPPED: dict[int, tuple[int, ...]] = {  # percent: tokens that layers 0, 1, … lose
    0: (),
    40: (0, 1, 21, 13, 14, 11, 41, 53, 29, 15, 14, 5, 1, 4, 5, 1, 26, 1, 13, 28, 6, 27, 2, 1, 0, 0,
         1, 1, 2),
    60: (14, 33, 89, 36, 36, 20, 55, 21, 18, 4, 7, 5, 2, 5, 7, 4, 26, 5, 11, 24, 4, 18, 2, 1, 0, 0,
         1, 0, 1),
    70: (48, 79, 118, 41, 33, 17, 36, 9, 9, 2, 3, 2, 1, 3, 4, 8, 18, 7, 8, 20, 4, 13, 2, 1, 0, 0, 1,
         0, 1),
    80: (128, 127, 118, 35, 26, 8, 13, 3, 2, 1, 0, 0, 0, 2, 1, 8, 7, 8, 5, 11, 2, 6, 1, 1, 0, 0, 0,
         1),
    90: (262, 153, 80, 19, 13, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 1, 2, 0, 1, 0, 0, 0, 0, 0, 1),
}
# fmt: on
TOKENS, DEPTH = 576, 32
READS = (Read.VISUAL_ATTENTION, Read.TEXT_ATTENTION)


def printed(percent: int) -> list[int]:
    """Visual tokens entering each of the 32 layers of a published list."""
    left = list(accumulate(DROPPED[percent], lambda n, dropped: n - dropped, initial=TOKENS))
    return left + left[-1:] * (DEPTH - len(left))


def stretched(percent: int, sizes: Sizes) -> list[Fraction]:
    """The list at another depth and number of tokens."""
    counts = printed(percent)
    places = (layer * DEPTH // sizes.layers for layer in range(sizes.layers))
    return [Fraction(counts[place] * sizes.tokens, TOKENS) for place in places]


@register("fitprune")
@dataclass(frozen=True)
class FitPrune(Method):
    """`percent` names one of the published lists, for the published schedule only."""

    label: ClassVar[str] = "FitPrune"
    venue: ClassVar[str] = "AAAI 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2409.10197"
    cuts: ClassVar[str] = "before every layer"

    schedule: str = "matched"
    percent: int = 60

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)
        one_of(self.name, "percent", str(self.percent), tuple(map(str, DROPPED)))

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        if self.schedule == "published":
            if (sizes.layers, sizes.tokens) != (DEPTH, TOKENS):
                raise PruningError(
                    f"{self.name}: published lists are for {TOKENS} tokens and {DEPTH} layers"
                )
            return _plan(tuple(printed(self.percent)))
        total = sizes.layers * budget
        for more, fewer in pairwise(stretched(percent, sizes) for percent in DROPPED):
            low, high = sum(fewer), sum(more)
            if low <= total <= high:
                share = (total - low) / (high - low)
                between = (f + share * (m - f) for m, f in zip(more, fewer, strict=True))
                return _plan(tuple(max(half_up(count), 1) for count in between))
        return None


def _plan(entering: tuple[int, ...]) -> Plan:
    return Plan(
        entering=entering,
        decoder=tuple(
            DecoderStage(f"after{layer - 1}", layer, READS, partial(_drop, tokens=entering[layer]))
            for layer in range(1, len(entering))
            if entering[layer] < entering[layer - 1]
        ),
        parameters={"tokens": entering},
    )


def attended(visual: Tensor, text: Tensor, after: Tensor) -> Tensor:
    """What tokens get from the visual rows times what they get from the text after: [b, v].

    `visual` [b, H, v, v] and `text` [b, H, t, v] attention; `after` bool [b, t].
    """
    own = visual.amax(1).sum(1) / visual.shape[-1]
    cross = text.amax(1).masked_fill(~after[..., None], 0.0).sum(1)
    return own * cross


def _drop(view: View, tokens: int) -> Selection:
    visual, text = (view[read] for read in READS)
    scores = attended(visual, text, view.text_after_image)
    # of equal ones the first go, as in the code
    order = ranked(scores).argsort(dim=1, stable=True)
    return Selection(Cut(order[:, view.count - tokens :].sort(dim=1).values))
