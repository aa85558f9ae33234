"""CDPruner: conditional diversity. https://arxiv.org/abs/2506.10967 (NeurIPS 2025)

How relevant a token is to the question weighs how unlike the tokens are: the kernel is relevance ·
cosine · relevance. Of that kernel's determinantal point process the most probable set is chosen
greedily, each next token being the one that enlarges the determinant most. They are kept in order
before layer 0, with contiguous positions.

`relevance=clip` is the published code on LLaVA: a patch's cosine with CLIP's embedding of the
question (of several lines all but the last, how to answer), negated; `clip` is the directory of the
CLIP checkpoint that the tower is from, whose text tower no LLaVA holds. What the paper takes
without one was never released. `relevance=text`, the default, is ours: a token's mean cosine with
the text after the image (the last token if there is none). Both are scaled to 0 … 1 over the
sample's images. The paper's exponent is off in the code, and here.

Past as many tokens as the model is wide the code keeps fewer than asked for, of noise. Ours: where
the largest gain is 1e-6 of the first or less, the most relevant of the rest fill up. Several images
keep their shares. The choice is sequential: B small steps a prefill.

On LLaVA-NeXT relevance is scaled over all crops, each chooses by itself, and newlines are dropped.
The code wants 2 × 2 crops and takes padding along; ours: shares are in proportion to what is left
of a crop, and a picture that was resampled is one crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.clip_checkpoint import check_clip, clip_digest
from methods.interface import (
    AnyRead,
    Cut,
    DecoderStage,
    EncoderStage,
    Method,
    NewTokens,
    Part,
    Plan,
    Positions,
    PruningError,
    Read,
    Selection,
    Sizes,
    View,
)
from methods.planning import check_images, check_whole, half_up, one_of, part_shares
from methods.registry import register
from methods.relevance import relevance_to_clip, relevance_to_text
from methods.tensors import best_in_order, gather_rows, of_each_part, places_of

EXHAUSTED = 1e-6


def scaled(relevance: Tensor) -> Tensor:
    """float32 [b, n] to 0 … 1 in each row; all 1 where all are equal."""
    low, high = relevance.amin(-1, keepdim=True), relevance.amax(-1, keepdim=True)
    return torch.where(high > low, (relevance - low + 1e-6) / (high - low), 1.0)


def most_probable(rows: Tensor, relevance: Tensor, count: int) -> Tensor:
    """Indices of `count` of the rows [b, n, D], ascending: int64 [b, count].

    `relevance` float32 [b, n] in 0 … 1.
    """
    unit = normalize(rows.float(), dim=-1)
    kernel = relevance[:, :, None] * (unit @ unit.transpose(1, 2)) * relevance[:, None]
    gain = kernel.diagonal(dim1=1, dim2=2)
    noise = EXHAUSTED * gain.amax(-1, keepdim=True)
    spanned = kernel.new_zeros(len(rows), count, rows.shape[1])
    gains, chosen = [], []
    for step in range(count):
        largest, token = gain.max(-1, keepdim=True)
        own = gather_rows(spanned.transpose(1, 2), token)
        new = (gather_rows(kernel, token) - own @ spanned)[:, 0] / largest.sqrt()
        spanned[:, step] = new
        gain = (gain - new.square()).scatter(1, token, -inf)
        gains.append(largest)
        chosen.append(token)
    # past the last direction all is noise, NaN too
    exhausted = (~(torch.cat(gains, 1) > noise)).cummax(1).values
    first = torch.where(exhausted, 0.0, inf)
    return best_in_order(relevance.scatter_add(1, torch.cat(chosen, 1), first), count)


@register("cdpruner")
@dataclass(frozen=True)
class CDPruner(Method):
    label: ClassVar[str] = "CDPruner"
    venue: ClassVar[str] = "NeurIPS 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2506.10967"
    cuts: ClassVar[str] = "before layer 0"

    relevance: str = "text"
    clip: str | None = None

    def __post_init__(self) -> None:
        one_of(self.name, "relevance", self.relevance, ("text", "clip"))
        if (self.relevance == "clip") != (self.clip is not None):
            raise PruningError(f"{self.name}: relevance=clip and clip=DIRECTORY go together")
        if self.clip is not None:
            check_clip(self.clip)

    def settings(self) -> dict[str, Any]:
        known = super().settings()
        return known if self.clip is None else {**known, "clip": clip_digest(self.clip)}

    @property
    def tower_reads(self) -> tuple[AnyRead, ...]:
        return () if self.clip is None else (Read.FEATURES,)

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        check_images(self.label, sizes)
        if self.clip is not None:
            check_whole(f"{self.label} by CLIP", sizes)
        counts = part_shares(max(half_up(budget), 1), sizes.parts)
        if counts is None:
            return None
        prune = partial(_prune, parts=sizes.parts, counts=counts)
        reads = (Read.HIDDEN, Read.TEXT_HIDDEN) if self.clip is None else (Read.HIDDEN,)
        compare = EncoderStage("compare", self.tower_reads, partial(_compare, clip=self.clip))
        return Plan(
            entering=(sum(counts),) * sizes.layers,
            encoder=(compare,) * len(sizes.segments) * (self.clip is not None),
            decoder=(DecoderStage("diverse", 0, reads, prune, Positions.CONTIGUOUS),),
            new_tokens=NewTokens.ENTERED,
            parameters={"tokens": counts},
        )


def _compare(view: View, clip: str | None) -> Selection:
    assert clip is not None
    return Selection(visual={"relevance": -relevance_to_clip(view, clip)})


def _prune(view: View, parts: tuple[Part, ...], counts: tuple[int, ...]) -> Selection:
    rows, relevance = view[Read.HIDDEN], view.carry.get("relevance")
    if relevance is None:
        relevance = relevance_to_text(rows, view[Read.TEXT_HIDDEN], view.text_after_image)
    patches = torch.cat([places_of(part, rows.device) for part in parts])
    relevance = relevance.index_copy(1, patches, scaled(relevance[:, patches]))
    return Selection(Cut(of_each_part(most_probable, parts, counts, rows, relevance)))
