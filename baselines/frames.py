"""Control: fewer frames. What one gets by not pruning at all.

A method for video has found nothing unless it is better than a video of which fewer frames were
sampled, at equal tokens. Of each clip frame ⌊(i + ½)·F/n⌋ for i = 0 … n−1 stays whole; what the
budget has left over, less than a frame, goes to one more frame, the last, of which every so many-th
token stays. B tokens in every layer.

On LLaVAs positions are contiguous, so that a budget of whole frames gives exactly what the model
says of a video with those alone. On Qwens they stay as they are, as times do; what text stands
before a frame that is gone (Qwen3-VL) stays, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from methods.clips import Clip, among_all, clips_of, numbering, outside, shared
from methods.interface import (
    Cut,
    DecoderStage,
    Method,
    Plan,
    Selection,
    Sizes,
    View,
)
from methods.registry import register


@register("frames")
@dataclass(frozen=True)
class FewerFrames(Method):
    label: ClassVar[str] = "Fewer frames"
    cuts: ClassVar[str] = "before layer 0"
    of_video: ClassVar[bool] = True

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        clips = clips_of(self.label, sizes)
        counts = shared(budget, sizes, clips)
        if min(counts) < 1:
            return None
        positions, new_tokens = numbering(sizes)
        select = partial(_sample, clips=clips, counts=counts)
        return Plan(
            entering=(outside(sizes, clips) + sum(counts),) * sizes.layers,
            decoder=(DecoderStage("frames", 0, (), select, positions),),
            new_tokens=new_tokens,
            parameters={
                "layers": (0,),
                "tokens": counts,
                "frames": tuple(n // clip.tokens for clip, n in zip(clips, counts, strict=True)),
            },
        )


def _sample(view: View, clips: tuple[Clip, ...], counts: tuple[int, ...]) -> Selection:
    device, batch = view.segments.device, len(view.segments)
    own = zip(clips, counts, strict=True)
    chosen = [sampled(clip, count, device).expand(batch, -1) for clip, count in own]
    return Selection(Cut(among_all(view.count, clips, chosen)))


def sampled(clip: Clip, count: int, device: torch.device) -> Tensor:
    """The `count` tokens of a clip that stay, from its first: int64 [count], ascending."""
    whole, rest = divmod(count, clip.tokens)
    frames = evenly(whole + (rest > 0), clip.frames, device) * clip.tokens
    rows = frames[:whole, None] + torch.arange(clip.tokens, device=device)
    part = frames[whole:] + evenly(rest, clip.tokens, device)
    return torch.cat([rows.flatten(), part])


def evenly(some: int, of: int, device: torch.device) -> Tensor:
    """`some` of so many numbers from 0, evenly spread: int64 [some]."""
    return (2 * torch.arange(some, device=device) + 1) * of // max(2 * some, 1)
