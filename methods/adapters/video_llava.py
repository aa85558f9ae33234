"""Video-LLaVA: a tower for images and one for videos, whose frames keep their CLS row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from methods.adapters._decoder import LlavaLike
from methods.adapters._frames import FramesTower
from methods.family import EncoderCall, adapter
from methods.sizes import Newline, Segment


@adapter("VideoLlavaForConditionalGeneration")
class VideoLlavaAdapter(LlavaLike, FramesTower):
    """Names the parts of a `VideoLlavaForConditionalGeneration`; an image, or a video, is a
    segment.
    """

    tower_stages = "it has a tower for images and one for videos, and neither is built here"

    @property
    def tower(self) -> nn.Module:
        return self.model.model.video_tower

    @property
    def towers(self) -> tuple[nn.Module, ...]:
        return self.model.model.image_tower, self.tower

    @property
    def tower_layers(self) -> Sequence[Any]:
        inner: Any = getattr(self.tower, "vision_model", self.tower)
        return inner.encoder.layers

    @property
    def feature_place(self) -> int:
        layer = self.model.config.vision_feature_layer
        return (layer if layer < 0 else layer - 1) % len(self.tower_layers)

    @property
    def side(self) -> int:
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size

    @property
    def has_cls(self) -> bool:
        return True

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        side = self.side
        if call.kind == "image":
            return [(Segment(side, side),)] * len(call.pixels)
        videos, frames = call.pixels.shape[:2]
        return [(Segment(side, side, frames, "video", newline=Newline.FRAME),)] * videos

    def of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        return states
