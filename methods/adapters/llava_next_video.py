"""LLaVA-NeXT-Video: images as LLaVA-NeXT has them, and the frames of videos, each pooled."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool2d

from methods.adapters._anyres import AnyResolution
from methods.adapters._clip import ClipTower
from methods.adapters._frames import PooledFrames
from methods.family import EncoderCall, adapter
from methods.sizes import Segment


@adapter("LlavaNextVideoForConditionalGeneration")
class LlavaNextVideoAdapter(AnyResolution, ClipTower, PooledFrames):
    """Names the parts of a `LlavaNextVideoForConditionalGeneration`; an image is two segments, a
    video one, without a newline.
    """

    crops = True

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        if call.kind == "image":
            return [(self.whole(), self.picture(size)) for size in self.heights_and_widths(call)]
        videos, frames = call.pixels.shape[:2]
        pooled = self.side // self.model.config.spatial_pool_stride
        video = Segment(pooled, pooled, frames, "video", has_cls=self.has_cls, resampled=True)
        return [(video,)] * videos

    def pooled(self, maps: Tensor) -> Tensor:
        return avg_pool2d(maps, self.model.config.spatial_pool_stride)
