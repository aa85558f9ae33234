"""VidCom2: frames that stand out keep more. https://arxiv.org/abs/2505.14454 (EMNLP 2025)

A token stands out that is unlike the mean of the video, and unlike that of its frame, by Gaussian
kernels of five widths, on the half of the channels that vary least; a frame does whose tokens do on
average. Before layer 0 each frame keeps a share of its tokens that grows with how it stands out: of
these the tokens that do most, in order.

In the code each frame's share is rounded for itself, so that how many tokens stay depends on the
video. Here B tokens stay: shares are rounded by largest remainders, at least one token a frame
(ours). Positions are contiguous on LLaVAs and stay as they are on Qwens, as published. On
Video-LLaVA a frame's CLS row is one of its tokens (ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.clips import Clip, among_all, clips_of, numbering, outside, shared
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
from methods.registry import register
from methods.tensors import are_best, first_true, ranked

WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
TEMPERATURE = 0.01


def likeness(features: Tensor) -> tuple[Tensor, Tensor]:
    """How like the video's mean, and its frame's, each token is: two float32 [b, F, T].

    `features` float [b, F, T, d].
    """
    tokens = features.float().flatten(1, 2)
    steady = tokens.var(1, unbiased=False).argsort(dim=1, stable=True)[:, : tokens.shape[2] // 2]
    chosen = tokens.gather(2, steady[:, None].expand(-1, tokens.shape[1], -1))
    unit = normalize(chosen, dim=-1, eps=1e-12).unflatten(1, features.shape[1:3])
    of_video, of_frame = unit.mean((1, 2), keepdim=True), unit.mean(2, keepdim=True)
    return _kernels(unit, of_video), _kernels(unit, of_frame)


def _kernels(rows: Tensor, centre: Tensor) -> Tensor:
    apart = (rows - centre).square().sum(-1)
    return torch.stack([torch.exp(-apart / (2 * width)) for width in WIDTHS]).sum(0)


def shares(of_video: Tensor, share: float) -> Tensor:
    """Share of its tokens that each frame keeps, at most 1: [b, F], `share` on average."""
    unlike = -of_video.mean(2)
    standing_out = ((unlike - unlike.amax(1, keepdim=True)) / TEMPERATURE).softmax(1)
    more = standing_out - standing_out.mean(1, keepdim=True)
    return (share * (1 + more)).clamp(max=1)


def dealt(wanted: Tensor, tokens: int, total: int) -> Tensor:
    """Whole tokens of each frame, `total` together, 1 to `tokens` each: int64 [b, F].

    By largest remainders of what is `wanted`, float [b, F]; of equal ones the earlier frame's.
    """
    seats = torch.arange(tokens, device=wanted.device)
    claims = (wanted[..., None] - seats).masked_fill(seats == 0, float("inf"))
    order = ranked(claims.flatten(1)).argsort(dim=1, descending=True, stable=True)
    taken = torch.zeros_like(order).scatter(1, order[:, :total], 1)
    return taken.unflatten(1, claims.shape[1:]).sum(2)


def kept(features: Tensor, share: float) -> Tensor:
    """What the published code keeps of a video [F, T, d]: int64 [rows], ascending."""
    of_video, of_frame = likeness(features[None])
    counts = (shares(of_video, share) * features.shape[1]).round().clamp(min=1)
    return are_best(of_video + of_frame, counts, largest=False).flatten().nonzero()[:, 0]


@register("vidcom2")
@dataclass(frozen=True)
class VidCom2(Method):
    label: ClassVar[str] = "VidCom2"
    venue: ClassVar[str] = "EMNLP 2025"
    link: ClassVar[str] = "https://arxiv.org/abs/2505.14454"
    cuts: ClassVar[str] = "before layer 0"
    of_video: ClassVar[bool] = True

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan | None:
        clips = clips_of(self.label, sizes)
        counts = shared(budget, sizes, clips)
        if any(count < clip.frames for count, clip in zip(counts, clips, strict=True)):
            return None
        positions, new_tokens = numbering(sizes)
        select = partial(_keep, clips=clips, counts=counts)
        return Plan(
            entering=(outside(sizes, clips) + sum(counts),) * sizes.layers,
            decoder=(DecoderStage("frames", 0, (Read.HIDDEN,), select, positions),),
            new_tokens=new_tokens,
            parameters={"layers": (0,), "tokens": counts},
        )


def _keep(view: View, clips: tuple[Clip, ...], counts: tuple[int, ...]) -> Selection:
    chosen = []
    for clip, count in zip(clips, counts, strict=True):
        of_video, of_frame = likeness(clip.of(view[Read.HIDDEN]))
        wanted = shares(of_video, count / clip.size) * clip.tokens
        flags = are_best(of_video + of_frame, dealt(wanted, clip.tokens, count), largest=False)
        chosen.append(first_true(flags.flatten(1), count))
    return Selection(Cut(among_all(view.count, clips, chosen)))
