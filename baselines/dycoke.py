"""DyCoke: what a frame repeats of the one before. https://arxiv.org/abs/2411.15024 (CVPR 2025)

Before layer 0, of every second frame only those tokens stay that are least like the token at the
same place of the frame before it; then of every fourth frame likewise, by the frame two before it.
Nothing is averaged, though the paper speaks of merging.

The code puts the tokens of a cut frame in the order of their likeness, never cuts the third of the
last four frames, drops an odd last frame whole, and fails on four frames or fewer. Here all but the
last two: an odd last frame stays, and two to four frames are cut pair by pair (ours). One frame
alone, such as an image, cannot be cut. `raster=true` leaves a frame's tokens in order (ours).

The printed ratio is of a cut frame's tokens. B decides it here; where it does not come out even the
first of these frames keep a token more (ours). Whole frames are many: of 32 frames 28 % of all
tokens is the least. Positions are contiguous on LLaVAs and stay as they are on Qwens (ours).

The second part, which lets a new token attend to fewer of the rows that are cached, is not built.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from methods.clips import Clip, among_all, clips_of, numbering, outside, shared
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
from methods.registry import register
from methods.tensors import ranked


def before(frames: int) -> dict[int, int]:
    """By the number of each frame that is cut, that of the frame it is held to."""
    pairs = {i + 1: i for i in range(0, frames - 1, 2)}
    return pairs | {i + 2: i for i in range(0, frames - 4, 4)}


def least_repeated(features: Tensor, counts: dict[int, int]) -> Tensor:
    """Tokens that stay, frame after frame: int64 [b, rows], from the clip's first.

    `features` float [b, F, T, d]; `counts`: how many stay of each frame that is cut, those least
    like the frame that it is held to first.
    """
    held_to, tokens = before(features.shape[1]), features.shape[2]
    kept = []
    for i, frame in enumerate(features.float().unbind(1)):
        rows = torch.arange(tokens, device=features.device).expand(len(features), -1)
        if i in counts:
            other = features[:, held_to[i]].float()
            alike = cosine_similarity(frame, other, dim=-1, eps=1e-8)
            rows = ranked(alike).argsort(dim=1, stable=True)[:, : counts[i]]
        kept.append(i * tokens + rows)
    return torch.cat(kept, 1)


def kept(features: Tensor, ratio: float) -> Tensor:
    """What the published code keeps of a video [F, T, d]: int64 [rows], in the order of its output.

    Raises PruningError for four frames or fewer.
    """
    frames, tokens = features.shape[:2]
    if frames <= 4:
        raise PruningError(f"DyCoke's code takes 5 frames or more, not {frames}")
    even = features[: frames // 2 * 2]
    # as it is computed there: 1 - 0.7 is a little more than 0.3
    counts = dict.fromkeys(before(frames), int((1 - ratio) * tokens))
    return least_repeated(even[None], counts)[0]


@register("dycoke")
@dataclass(frozen=True)
class DyCoke(Method):
    """`raster`: the tokens of a frame stay in their places."""

    label: ClassVar[str] = "DyCoke"
    venue: ClassVar[str] = "CVPR 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2411.15024"
    cuts: ClassVar[str] = "before layer 0"
    of_video: ClassVar[bool] = True
    fewest_frames: ClassVar[int] = 2

    raster: bool = False

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        clips = clips_of(self.label, sizes)
        if any(clip.frames < self.fewest_frames for clip in clips):
            return None
        counts = shared(budget, sizes, clips)
        per_frame = [_counts(clip, count) for clip, count in zip(clips, counts, strict=True)]
        if any(min(own.values()) < 1 for own in per_frame):
            return None
        positions, new_tokens = numbering(sizes)
        select = partial(_keep, clips=clips, counts=per_frame, raster=self.raster)
        return Plan(
            entering=(outside(sizes, clips) + sum(counts),) * sizes.layers,
            decoder=(DecoderStage("repeated", 0, (Read.HIDDEN,), select, positions),),
            new_tokens=new_tokens,
            parameters={"layers": (0,), "tokens": counts},
        )


def _counts(clip: Clip, total: int) -> dict[int, int]:
    """Tokens of each frame that is cut, where all frames together keep `total`."""
    cut = sorted(before(clip.frames))
    each, more = divmod(total - clip.tokens * (clip.frames - len(cut)), len(cut))
    return {frame: each + (i < more) for i, frame in enumerate(cut)}


def _keep(
    view: View, clips: tuple[Clip, ...], counts: list[dict[int, int]], raster: bool
) -> Selection:
    chosen = [
        least_repeated(clip.of(view[Read.HIDDEN]), own)
        for clip, own in zip(clips, counts, strict=True)
    ]
    if raster:
        chosen = [rows.sort(dim=1).values for rows in chosen]
    return Selection(Cut(among_all(view.count, clips, chosen)))
