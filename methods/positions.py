"""Positions with three axes beside the text index: how they are taken, and what is not defined.

A token of an image has a time, a height and a width; one of text the same three times. Where such
tokens leave, the others keep their three. A new token's come from the model, which counts them from
the whole prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.errors import PruningError
from methods.plan import DecoderStage, NewTokens, Plan, Positions
from methods.reads import Read
from methods.sizes import Segment

AXES = 3


def parted(given: Tensor | None, valid: Tensor) -> tuple[Tensor, Tensor | None]:
    """Text index int64 [B, L] and axes int64 [3, B, L], None where there are none.

    `given`: position ids as a text model gets them, [B or 1, L], [3, B, L], or [4, B, L] with the
    text index before the axes; None for places. `valid` bool [B, L] is not padding.
    """
    if given is None:
        given = torch.arange(valid.shape[1], device=valid.device)[None]
    given = given.to(valid.device)
    if given.dim() == 2:
        return given.expand(valid.shape), None
    if len(given) == AXES:
        return (valid.long().cumsum(1) - 1).clamp(min=0), given
    return given[0].expand(valid.shape), given[-AXES:]


def spread(axes: Tensor | None, visual: Tensor) -> Tensor:
    """int64 [B]: visual tokens of each sample whose three positions are not all the same."""
    if axes is None:
        return torch.zeros_like(visual.sum(1))
    return (visual & (axes != axes[:1]).any(0)).sum(1)


def check_axes(segments: Sequence[Sequence[Segment]], on_axes: Sequence[int]) -> None:
    """Raises PruningError where the model placed a sample's images as if they were text.

    `on_axes` are those tokens of each sample that `spread` counts.
    """
    for own, spread_tokens in zip(segments, on_axes, strict=True):
        if any(segment.tokens > 1 for segment in own) and not spread_tokens:
            raise PruningError(
                "the images' tokens have the positions of text; give mm_token_type_ids with the "
                "prompt, as the model's processor does"
            )


def check_plan(method: str, plan: Plan, model: str) -> None:
    """Raises PruningError for a plan that numbers tokens anew, or reads their text index."""
    if not plan.stages:
        return
    reads = {read for stage in plan.stages for read in stage.reads}
    stay = plan.new_tokens is NewTokens.PROMPT and all(
        stage.positions is Positions.ORIGINAL
        for stage in plan.stages
        if isinstance(stage, DecoderStage)
    )
    if not stay or Read.ROTARY in reads:
        raise PruningError(
            f"{method} is not defined here for {model}: positions have three axes, and it "
            + ("reads the angle between two of them" if stay else "numbers what it keeps anew")
        )
