"""VScan: two scans of an image, one by the question. https://arxiv.org/abs/2505.22654 (TMLR 2026)

Half of V tokens come from CLS's attention in a shallow tower layer, as many from each of 4×4
windows, the others from that of the layer in use; each other patch is averaged into the kept one
most like it as projected. The last prompt token's attention in layer 16 of 32 keeps the R best.

Published are V = 3B/2 and R = B/2; windows round down: 150 gives 139. Ours, for exact counts: the V
that gives nearest to 3B/2, and R solved. What a window gave is not taken twice. Ours too: the
shallow layer, 5 of 24, is ⌊5·M/24⌋ of M; windows have near-equal sides, and two rows of patches.
On LLaVA-NeXT each crop has its V, in proportion to what unpadding leaves of it, and newlines stay.
Of several crops the code ranks the first V tokens only in layer 16, ours all, newlines too.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from math import inf, prod
from typing import ClassVar

import torch
from torch import Tensor

from methods.crops import patches_of
from methods.interface import (
    AnyRead,
    Cut,
    DecoderStage,
    EncoderStage,
    Method,
    NewTokens,
    OfLayer,
    Part,
    Plan,
    Positions,
    Read,
    Segment,
    Selection,
    Sizes,
    View,
)
from methods.merging import averaged
from methods.planning import SCHEDULES, check_not_resampled, half_up, layers_of, one_of
from methods.registry import register
from methods.tensors import best_in_order, first_true, places_of, ranked
from methods.windows import best_of_windows

RANK, CONTIGUOUS = Read.NEXT_LAST_ATTENTION, Positions.CONTIGUOUS


def shallow_layer(layers: int) -> int:
    return 5 * layers // 24


def windows_of(part: Part) -> tuple[int, int]:
    return min(4, max(1, part.h // 2)), min(4, max(1, part.w // 2))


def halves(wanted: int, part: Part) -> tuple[int, int]:
    """Patches that all windows together give, and that the whole image gives, of `wanted`."""
    windows = prod(windows_of(part))
    return wanted // 2 // windows * windows, wanted - wanted // 2


def scanned(early: Tensor, late: Tensor, part: Part, wanted: int) -> Tensor:
    """Flags of the patches kept, from CLS's attention [b, n] in both layers: bool [b, n]."""
    grid, (local, globally) = windows_of(part), halves(wanted, part)
    kept = best_of_windows(early, part, grid, local // prod(grid))
    best = best_in_order(late.masked_fill(kept, -inf), globally)
    return kept.scatter(1, best, True)


@register("vscan")
@dataclass(frozen=True)
class VScan(Method):
    """`tower_layer` is the shallow one, counted from 0; 5 at every depth as published."""

    label: ClassVar[str] = "VScan"
    venue: ClassVar[str] = "TMLR 2026"
    link: ClassVar[str] = "https://arxiv.org/abs/2505.22654"
    cuts: ClassVar[str] = "vision tower and before layer 16"
    crops: ClassVar[bool] = True

    schedule: str = "matched"
    tower_layer: int | None = None

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)

    @property
    def tower_reads(self) -> tuple[AnyRead, ...]:
        usual = 5 if self.schedule == "published" else shallow_layer
        layer = usual if self.tower_layer is None else self.tower_layer
        return OfLayer(Read.CLS_ATTENTION, layer), Read.CLS_ATTENTION

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        check_not_resampled(self.label, sizes)
        (layer,) = layers_of(self.name, self.schedule, (16,), (None,), sizes.layers)
        wanted = tuple(self._wanted(budget * p.tokens / sizes.tokens, p) for p in sizes.parts)
        kept = sum(sum(halves(v, p)) for v, p in zip(wanted, sizes.parts, strict=True))
        kept += sizes.newlines
        matched = (sizes.layers * budget - layer * kept) / (sizes.layers - layer)
        left = half_up(budget / 2 if self.schedule == "published" else matched)
        if not all(wanted) or not 1 <= left <= kept:
            return None
        reads, own = self.tower_reads, iter(wanted)
        merge = partial(_merge, parts=sizes.parts, tokens=kept)
        return Plan(
            entering=(kept,) * layer + (left,) * (sizes.layers - layer),
            encoder=tuple(
                EncoderStage("scan", reads, partial(_scan, shallow=reads[0], segment=s, wanted=v))
                for s in sizes.segments
                for v in [tuple(islice(own, len(s.parts())))]
            ),
            decoder=(
                DecoderStage("merge", 0, (Read.HIDDEN,), merge, CONTIGUOUS),
                DecoderStage("rank", layer, (RANK,), partial(_rank, tokens=left), CONTIGUOUS),
            ),
            new_tokens=NewTokens.CACHE,
            parameters={"layers": (layer,), "wanted": wanted, "tokens": (kept, left)},
        )

    def _wanted(self, budget: Fraction, part: Part) -> int:
        """V of an image with this share of the budget; 0 where windows would give nothing."""
        possible = range(2 * prod(windows_of(part)), part.tokens + 1)
        aim = Fraction(3, 2) * budget
        if self.schedule == "published":
            return half_up(aim) if half_up(aim) in possible else 0
        return min(possible, key=lambda v: abs(sum(halves(v, part)) - aim), default=0)


def _scan(view: View, shallow: AnyRead, segment: Segment, wanted: tuple[int, ...]) -> Selection:
    """Newlines stay; `wanted` of each part."""
    early, late = ranked(view[shallow].mean(1)), view[Read.CLS_ATTENTION].mean(1)
    kept = torch.ones_like(early[:, :1], dtype=torch.bool).repeat(1, segment.tokens)
    for part, own in zip(segment.parts(), wanted, strict=True):
        patches = patches_of(part, segment, early.device)
        flags = scanned(early[:, patches], late[:, patches], part, own)
        kept[:, places_of(part, early.device)] = flags
    return Selection(visual={"kept": kept})


def _merge(view: View, parts: tuple[Part, ...], tokens: int) -> Selection:
    crop = torch.full_like(view.segments, len(parts))
    for i, part in enumerate(parts):
        crop[:, places_of(part, crop.device)] = i
    kept = first_true(view.carry["kept"], tokens)
    return Selection(averaged(view[Read.HIDDEN], crop, kept))


def _rank(view: View, tokens: int) -> Selection:
    return Selection(Cut(best_in_order(view[RANK].mean(1), tokens)))
