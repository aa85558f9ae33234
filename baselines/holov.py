"""HoloV: the whole picture first. https://arxiv.org/abs/2510.02912 (NeurIPS 2025)

The visual tokens of an image are cut into 16 runs of consecutive ones. The more the CLS row attends
to a run on average, the larger its share of the budget; it keeps the tokens attended to most. They
go through the projector with contiguous positions.

A run that keeps all its tokens keeps their order; any other has them from the most attended to the
least, as in the code. The paper adds to a run's score how its tokens' similarities spread; the code
scales that term so that it cancels, and it is left out here.

B tokens in every layer. Where a run is given more than it has, the code appends rows of zeros,
which take part in attention. Ours: a quota ends at the run's length, and what is over goes one by
one to the run of largest share that has room; nothing changes where nothing overflows. Each image
keeps its share of the budget (ours; the code is wrong for several).

On LLaVA-NeXT all crops of an image, the whole first, are one sequence before it is cut into runs,
so that runs mix crops; padding is among it, newlines are not. Videos are ours: each frame is a
sequence of its own, with its share (`methods/framewise.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from methods.crops import keep_of_images
from methods.interface import Method, Plan, Read, Segment, Sizes, View
from methods.registry import register
from methods.tensors import dealt_out, first_true, group_means

RUNS = 16
SCALE = 1.09 * 1000
"""What the code multiplies attention with; it matters beside the 1e-6 of a share only."""


def runs_of(tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Run int64 [tokens] of each token, and length int64 [runs] of each; the first are longer."""
    count = min(RUNS, tokens)
    index = torch.arange(count, device=device)
    lengths = tokens // count + (index < tokens % count).long()
    return index.repeat_interleave(lengths, output_size=tokens), lengths


def quotas(score: Tensor, lengths: Tensor, budget: int) -> Tensor:
    """Tokens that each run keeps: int64 [b, runs], together `budget` ≤ all.

    `score` float32 [b, runs], `lengths` int64 [runs].
    """
    share = score / (score.sum(-1, keepdim=True) + 1e-6)
    order = share.argsort(dim=-1, descending=True, stable=True)
    return dealt_out((share * budget).floor().long(), order, lengths, budget)


def most_attended_by_run(attention: Tensor, budget: int) -> Tensor:
    """Tokens kept, run after run, within a run as it keeps them: int64 [b, budget].

    `attention` float32 [b, n] of the CLS row.
    """
    batch, tokens = attention.shape
    run, lengths = runs_of(tokens, attention.device)
    means = group_means(attention[..., None], run.expand(batch, -1), len(lengths))[..., 0]
    quota = quotas(SCALE * means, lengths, budget)
    whole = (quota == lengths)[:, run]
    place = torch.arange(tokens, device=attention.device)
    ranked = torch.where(whole, -place.float(), attention).argsort(
        dim=-1, descending=True, stable=True
    )
    ranked = ranked.gather(1, run[ranked].argsort(dim=-1, stable=True))
    rank = place - (lengths.cumsum(0) - lengths)[run]
    return ranked.gather(1, first_true(rank < quota[:, run], budget))


@register("holov")
@dataclass(frozen=True)
class HoloV(Method):
    label: ClassVar[str] = "HoloV"
    venue: ClassVar[str] = "NeurIPS 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2510.02912"
    cuts: ClassVar[str] = "vision tower"
    tower_reads: ClassVar[tuple[Read, ...]] = (Read.CLS_ATTENTION,)
    crops: ClassVar[bool] = True
    merged_reads: ClassVar[tuple[Read, ...]] = tower_reads

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        return keep_of_images(budget, sizes, "runs", self.tower_reads, _choose)


def _choose(view: View, segments: tuple[Segment, ...], tokens: int) -> Tensor:
    return most_attended_by_run(view[Read.CLS_ATTENTION].mean(1), tokens)
