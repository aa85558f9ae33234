"""Images of any resolution: a view of the whole, and crops put together and unpadded.

One tower call takes all crops of a batch; each is projected, and the picture is put together behind
the projector, where the model appends newline tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch

from methods.adapters._decoder import LlavaLike
from methods.family import EncoderCall
from methods.sizes import Crops, Newline, Segment


class AnyResolution(LlavaLike):
    """Names the parts of a model that cuts an image into crops by `image_grid_pinpoints`."""

    tower_stages = "its images are cut into crops, and what it does with them is not built"

    @property
    def has_cls(self) -> bool:
        return self.model.config.vision_config.model_type == "clip_vision_model"

    @property
    def side(self) -> int:
        """Tokens along each side of a crop."""
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size

    def heights_and_widths(self, call: EncoderCall) -> list[list[int]]:
        """Of the images as they were given."""
        return torch.as_tensor(call.arguments["image_sizes"]).tolist()

    def whole(self, newline: Newline = Newline.NONE) -> Segment:
        """The whole image as one crop."""
        return Segment(self.side, self.side, has_cls=self.has_cls, newline=newline)

    def picture(self, size: Sequence[int], most: int | None = None) -> Segment:
        """The crops of an image of this height and width, put together; resampled to about `most`
        crops' tokens where they are many more.
        """
        # here, so that naming the supported models does not take transformers' seconds
        from transformers.models.llava_next.modeling_llava_next import (
            get_anyres_image_grid_shape,
            unpad_image,
        )

        config: Any = self.model.config
        rows, columns = get_anyres_image_grid_shape(
            size, config.image_grid_pinpoints, config.vision_config.image_size
        )
        wide = columns * self.side
        places = torch.arange(rows * self.side * wide).reshape(1, -1, wide)
        left = unpad_image(places, size)[0]
        height, width = left.shape
        top, first = divmod(int(left[0, 0]), wide)
        ratio = 0.0 if most is None else sqrt(height * width / (most * self.side**2))
        resampled = ratio > 1.1
        return Segment(
            int(height // ratio) if resampled else height,
            int(width // ratio) if resampled else width,
            has_cls=self.has_cls,
            newline=Newline.ROW,
            crops=Crops(rows, columns, self.side, top, first),
            resampled=resampled,
        )
