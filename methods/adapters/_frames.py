"""A CLIP or SigLIP tower that sees the frames of videos, each a row of its batch."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from methods.errors import PruningError
from methods.merged_tower import MergingTower
from methods.sizes import Segment


class FramesTower(MergingTower):
    """Names what the tower shows of frames, in the layer whose output is used."""

    shown_kinds: ClassVar[tuple[str, ...]] = ("video",)

    @property
    def last_layer(self) -> nn.Module:
        place = self.model.config.vision_feature_layer
        if not isinstance(place, int):
            raise PruningError("a tower whose features come from several layers is not supported")
        inner: Any = getattr(self.tower, "vision_model", self.tower)
        return inner.encoder.layers[place if place < 0 else place - 1]

    @property
    def frame_side(self) -> int:
        """Patches along each side of a frame."""
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size

    def frame_rows(self, segment: Segment) -> int:
        return self.frame_side**2 + self.has_cls


class PooledFrames(FramesTower):
    """The same of a model that pools the patches of a frame to fewer tokens."""

    def of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        heads, patches = states.shape[1], states[:, :, int(self.has_cls) :]
        maps = patches.transpose(2, 3).flatten(1, 2).unflatten(2, (self.frame_side, -1))
        return self.pooled(maps).flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)

    @abstractmethod
    def pooled(self, maps: Tensor) -> Tensor:
        """Maps [n, channels, side, side] of a frame as its features are pooled."""
