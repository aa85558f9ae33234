"""Qwen3-VL: as Qwen2-VL, with features of the tower's layers added in the decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from methods.adapters.qwen_vl import QwenVLAdapter
from methods.family import EncoderCall, adapter
from methods.sizes import Segment

_WHERE, _FEATURES = "visual_pos_masks", "deepstack_visual_embeds"


@adapter("Qwen3VLForConditionalGeneration")
class Qwen3VLAdapter(QwenVLAdapter):
    """Names the parts of a `Qwen3VLForConditionalGeneration`; each frame of a video is a segment,
    with text of its own before it.
    """

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        return [
            (replace(video, t=1, frame=frame),)
            for (video,) in super().segments(call)
            for frame in range(video.t)
        ]

    def added(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], tuple[Tensor, ...]]:
        if kwargs.get(_FEATURES) is None:
            return kwargs, ()
        hidden, where = kwargs["inputs_embeds"], kwargs[_WHERE][..., None]
        added = tuple(
            torch.zeros_like(hidden).masked_scatter(where, rows.to(hidden))
            for rows in kwargs[_FEATURES]
        )
        return {**kwargs, _WHERE: None, _FEATURES: None}, added
