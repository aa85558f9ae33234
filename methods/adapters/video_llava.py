"""Video-LLaVA: a tower for images and one for videos, whose frames keep their CLS row."""

from __future__ import annotations

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
    def has_cls(self) -> bool:
        return True

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        vision = self.model.config.vision_config
        side = vision.image_size // vision.patch_size
        if call.kind == "image":
            return [(Segment(side, side),)] * len(call.pixels)
        videos, frames = call.pixels.shape[:2]
        return [(Segment(side, side, frames, "video", newline=Newline.FRAME),)] * videos

    def of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        return states
