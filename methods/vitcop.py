"""ViTCoP: vision and text collaborative pruning. https://arxiv.org/abs/2601.17818 (AAAI 2026)

Three stages. In the vision tower the patches that CLS attends to are kept and clustered by what
they show and where they lie. Before a shallow decoder layer each cluster keeps the tokens that
matter to the language model and merges its others into one, so that what is dropped is redundant
rather than unimportant. Before a deep layer only the most important fifth stays.

Importance in the language model is the L2 norm of the head-averaged key after RoPE; a smaller norm
is more important. Where paper and published code differ we follow the code: position ids after the
last stage are indices among the tokens that entered it, and a merged token is its middle member
plus the group's mean. Ours: the vision ratio v and the cluster share c for budgets other than the
published 192, 128 and 64 of 576, by the line through those three points.

LLaVA-NeXT is ours, since nothing is published for it: each crop is cut by itself with the same v
and c, padding too, and no cluster reaches over two. What they keep goes on row by row of the
picture; newlines are dropped, as VisionZip's code does: with those of rows that keep a patch the
count would depend on the image. The later stages are over all crops together.

Videos, and Qwen2.5-VL, are ours too. Each frame is cut by itself likewise, on what the tower shows
of the language model's tokens: by its CLS row or, where it has none, by what tokens receive. CLS
rows (Video-LLaVA) are dropped, and a newline at the end is a cluster of its own. On Qwens, whose
positions have three axes, rows keep theirs in every stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from methods.clips import numbering
from methods.clustering import cluster_in_reach
from methods.crops import (
    of_crops,
    order_in_pictures,
    patches_of_crops,
    stage_each,
    tower_rows,
)
from methods.framewise import shown_as_tokens
from methods.interface import (
    Cut,
    DecoderStage,
    EncoderStage,
    Method,
    Newline,
    Plan,
    Positions,
    PruningError,
    Read,
    Segment,
    Selection,
    Sizes,
    View,
)
from methods.merging import coprune
from methods.planning import SCHEDULES, half_up, layers_of, one_of
from methods.registry import register
from methods.tensors import best_in_order, gather_rows

DEEP_SHARE = Fraction(1, 5)


def key_norms(keys: Tensor) -> Tensor:
    """L2 norm of the head-averaged key: [b, H, v, d] to float32 [b, v]."""
    return keys.float().mean(1).norm(dim=-1)


@register("vitcop")
@dataclass(frozen=True)
class ViTCoP(Method):
    """Published (v, c): 192 → (0.5, 0.18), 128 → (0.4, 0.15), 64 → (0.3, 0.12) of 576 tokens.

    `schedule="published"` leaves the layers 2 and 22 as printed at every depth; explicit layers,
    `vision_ratio` and `cluster_share` go before both. `original_positions` keeps the position ids
    in the last stage, which the published code does not.
    """

    label: ClassVar[str] = "ViTCoP"
    venue: ClassVar[str] = "AAAI 2026"
    link: ClassVar[str] = "https://arxiv.org/abs/2601.17818"
    cuts: ClassVar[str] = "vision tower; before layers 2 and 22"
    tower_reads: ClassVar[tuple[Read, ...]] = (Read.CLS_ATTENTION, Read.TOWER_KEYS)
    crops: ClassVar[bool] = True
    merged_reads: ClassVar[tuple[Read, ...]] = tower_reads

    schedule: str = "matched"
    shallow_layer: int | None = None
    deep_layer: int | None = None
    vision_ratio: float | None = None
    cluster_share: float | None = None
    original_positions: bool = False

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, SCHEDULES)
        for name in ("vision_ratio", "cluster_share"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise PruningError(f"vitcop: {name} lies in (0, 1], not {value}")

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        shallow, deep = layers_of(
            self.name, self.schedule, (2, 22), (self.shallow_layer, self.deep_layer), sizes.layers
        )
        ratio, kept, tokens = self._counts(budget, sizes, shallow, deep)
        n = sum(kept) + _ends(sizes)
        if not 1 <= tokens <= n <= sizes.tokens:
            return None

        deep_tokens = max(half_up(tokens * DEEP_SHARE), 1)
        share = budget / sum(patches_of_crops(sizes))
        centres = float(Fraction(9, 100) + Fraction(27, 100) * share)
        centres = min(centres, 1.0) if self.cluster_share is None else self.cluster_share
        last = Positions.ORIGINAL if self.original_positions else Positions.ENTERED_INDEX
        first, new_tokens = numbering(sizes)
        if first is Positions.ORIGINAL:
            last = first
        norms, both = (Read.KEYS,), (Read.HIDDEN, Read.KEYS)
        return Plan(
            entering=(n,) * shallow
            + (tokens,) * (deep - shallow)
            + (deep_tokens,) * (sizes.layers - deep),
            encoder=self._in_tower(sizes, kept, centres),
            decoder=(
                *_of_tokens(sizes, kept, centres, first),
                DecoderStage("shallow", shallow, both, partial(_shallow, tokens=tokens)),
                DecoderStage("deep", deep, norms, partial(_deep, tokens=deep_tokens), last),
            ),
            new_tokens=new_tokens,
            parameters={
                "layers": (shallow, deep),
                "vision_ratio": float(ratio),
                "cluster_share": centres,
                "tokens": (n, tokens, deep_tokens),
            },
        )

    def _in_tower(self, sizes: Sizes, kept: list[int], share: float) -> tuple[EncoderStage, ...]:
        if shown_as_tokens(sizes):
            return tuple(EncoderStage("see", self.merged_reads, _see) for _ in sizes.segments)
        vision = partial(_vision, share=share)
        return stage_each("vision", self.tower_reads, vision, kept, sizes)

    def _counts(
        self, budget: Fraction, sizes: Sizes, shallow: int, deep: int
    ) -> tuple[Fraction, list[int], int]:
        """The vision ratio, the patches that it keeps of each crop, and the tokens that enter the
        layers between the shallow and the deep one.
        """
        patches, ends = patches_of_crops(sizes), _ends(sizes)
        share = budget / sum(patches)
        late = (deep - shallow) + (sizes.layers - deep) * DEEP_SHARE
        ratio = min(Fraction(1, 5) + Fraction(9, 10) * share, Fraction(1))
        if self.vision_ratio is not None:
            ratio = Fraction(str(self.vision_ratio))
        kept = [max(int(ratio * own), 1) for own in patches]
        tokens = half_up((sizes.layers * budget - shallow * (sum(kept) + ends)) / late)
        if tokens > sum(kept) + ends and self.vision_ratio is None:
            # more than enter the shallow layer: raise the ratio until they are as many
            ratio = sizes.layers * share / (shallow + late)
            kept = [min(ceil(ratio * own), own) for own in patches]
            tokens = half_up((sizes.layers * budget - shallow * (sum(kept) + ends)) / late)
        return ratio, kept, tokens


def _vision(view: View, segment: Segment, crops: tuple[int, ...], share: float) -> Selection:
    """`crops`: the patches that each crop keeps; a cluster is of one crop."""
    kept, labels, (h, w) = [], [], segment.crop_shape
    for i, (crop, tokens) in enumerate(zip(of_crops(view, len(crops)), crops, strict=True)):
        salient = best_in_order(crop[Read.CLS_ATTENTION].sum(1), tokens)
        keys = gather_rows(crop[Read.TOWER_KEYS], salient + int(segment.has_cls))
        clusters = cluster_in_reach(keys, _places(salient, h, w), share)
        labels.append(clusters + i * view.count)
        kept.append(salient + i * segment.patches)
    patches = torch.cat(kept, 1)
    order = order_in_pictures(patches, (segment,))
    rows, clusters = tower_rows(patches, segment).gather(1, order), torch.cat(labels, 1)
    return Selection(Cut(rows), visual={"labels": clusters.gather(1, order)})


def _ends(sizes: Sizes) -> int:
    """Newlines at the ends of videos, which stay."""
    return sum(map(_has_end, sizes.segments))


def _has_end(segment: Segment) -> bool:
    return segment.kind == "video" and segment.newline is Newline.END


def _of_tokens(
    sizes: Sizes, kept: list[int], share: float, positions: Positions
) -> tuple[DecoderStage, ...]:
    """The first stage, where the tower shows tokens."""
    if not shown_as_tokens(sizes):
        return ()
    select = partial(_vision_of_tokens, segments=sizes.segments, kept=tuple(kept), share=share)
    return (DecoderStage("vision", 0, (), select, positions),)


def _see(view: View) -> Selection:
    attention = view[Read.CLS_ATTENTION].sum(1)
    return Selection(visual={"attention": attention, "keys": view[Read.TOWER_KEYS]})


def _vision_of_tokens(
    view: View, segments: tuple[Segment, ...], kept: tuple[int, ...], share: float
) -> Selection:
    """`kept`: the tokens that each frame of all segments keeps; a cluster is of one frame."""
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    counts, start = iter(kept), 0
    for segment in segments:
        for i, tokens in enumerate(islice(counts, segment.tower_images)):
            first = start + i * segment.frame_tokens + (segment.newline is Newline.FRAME)
            own = slice(first, first + segment.h * segment.w)
            salient = best_in_order(view.carry["attention"][:, own], tokens)
            keys = gather_rows(view.carry["keys"][:, own], salient)
            clusters = cluster_in_reach(keys, _places(salient, segment.h, segment.w), share)
            labels.append(clusters + len(labels) * view.count)
            rows.append(first + salient)
        start += segment.tokens
        if _has_end(segment):
            rows.append(torch.full_like(rows[-1][:, :1], start - 1))
            labels.append(torch.full_like(rows[-1], len(labels) * view.count))
    return Selection(Cut(torch.cat(rows, 1)), visual={"labels": torch.cat(labels, 1)})


def _places(patches: Tensor, h: int, w: int) -> Tensor:
    """Row and column of patches int64 [b, n] as shares of the grid's: float32 [b, n, 2]."""
    return torch.stack([patches // w / h, patches % w / w], -1)


def _shallow(view: View, tokens: int) -> Selection:
    # clusters of different images are different clusters
    labels = view.carry["labels"]
    labels = labels + view.segments * (labels.amax() + 1)
    return Selection(coprune(view[Read.HIDDEN], key_norms(view[Read.KEYS]), labels, tokens))


def _deep(view: View, tokens: int) -> Selection:
    return Selection(Cut(best_in_order(key_norms(view[Read.KEYS]), tokens, largest=False)))
