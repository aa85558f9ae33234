"""LLaVA-OneVision: one image in crops, several images whole, videos pooled frame by frame."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from methods.adapters._anyres import AnyResolution
from methods.adapters._clip import ClipTower
from methods.adapters._frames import PooledFrames
from methods.encoding import Encoded
from methods.family import EncoderCall, adapter
from methods.sizes import Newline, Segment


@adapter("LlavaOnevisionForConditionalGeneration")
class LlavaOnevisionAdapter(AnyResolution, ClipTower, PooledFrames):
    """Names the parts of a `LlavaOnevisionForConditionalGeneration`.

    The only image of a sample is two segments; another, or a video, is one with a newline at the
    end.
    """

    crops = True

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        if call.kind == "video":
            return self._videos(*call.pixels.shape[:2])
        sizes = self.heights_and_widths(call)
        counts = call.arguments.get("batch_num_images")
        given = [1] * len(sizes) if counts is None else torch.as_tensor(counts).tolist()
        alone = [count == 1 for count in given for _ in range(count)]
        ratio = call.arguments.get("vision_aspect_ratio") or self.model.config.vision_aspect_ratio
        most = int(ratio.removeprefix("anyres_max_"))
        return [
            (self.whole(), self.picture(size, most)) if only else (self.whole(Newline.END),)
            for size, only in zip(sizes, alone, strict=True)
        ]

    def encoded(self, segment: Segment) -> Encoded:
        found = super().encoded(segment)
        if segment.kind == "image":
            return found
        return replace(found, projected=segment.tower_images * self.side**2)

    def pooled(self, maps: Tensor) -> Tensor:
        pooled = -(-self.side // 2)
        return interpolate(maps, size=(pooled, pooled), mode="bilinear")

    def _videos(self, videos: int, frames: int) -> list[tuple[Segment, ...]]:
        pooled = -(-self.side // 2)
        video = Segment(
            *(pooled, pooled, frames, "video"),
            has_cls=self.has_cls,
            newline=Newline.END,
            resampled=True,
        )
        return [(video,)] * videos
