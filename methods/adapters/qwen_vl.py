"""Qwen2-VL and Qwen2.5-VL: free resolution, merged patches, positions of three axes."""

from __future__ import annotations

import torch
from torch import nn

from methods.adapters._decoder import LlamaLike
from methods.family import EncoderCall, adapter
from methods.sizes import Segment


@adapter("Qwen2VLForConditionalGeneration")
@adapter("Qwen2_5_VLForConditionalGeneration")
class QwenVLAdapter(LlamaLike):
    """Names the parts of a Qwen-VL; an image, or a video, is a segment.

    Merging patches is the tower's last step, so that it has no projector of its own.
    """

    position_axes = 3
    tower_stages = "its tower merges patches, and nothing in it is built for that"

    @property
    def tower(self) -> nn.Module:
        return self.model.model.visual

    @property
    def projector(self) -> None:
        return None

    @property
    def has_cls(self) -> bool:
        return False

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        merged = self.model.config.vision_config.spatial_merge_size
        grids = torch.as_tensor(call.arguments[f"{call.kind}_grid_thw"]).tolist()
        return [
            (Segment(h // merged, w // merged, t, call.kind, has_cls=False),) for t, h, w in grids
        ]
