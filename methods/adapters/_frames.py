"""A CLIP or SigLIP tower that sees the frames of videos, each a row of its batch."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from methods.merged_tower import MergingTower
from methods.sizes import Segment


class FramesTower(MergingTower):
    """Names what the tower shows of the tokens of a video's frames."""

    shown_kinds: ClassVar[tuple[str, ...]] = ("video",)

    @property
    @abstractmethod
    def side(self) -> int:
        """Patches along each side of a frame."""

    def seeing_layer(self, place: int) -> nn.Module:
        return self.tower_layers[place]

    def frame_rows(self, segment: Segment) -> int:
        return self.side**2 + self.has_cls


class PooledFrames(FramesTower):
    """The same of a model that pools the patches of a frame to fewer tokens."""

    def of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        heads, patches = states.shape[1], states[:, :, int(self.has_cls) :]
        maps = patches.transpose(2, 3).flatten(1, 2).unflatten(2, (self.side, -1))
        return self.pooled(maps).flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)

    @abstractmethod
    def pooled(self, maps: Tensor) -> Tensor:
        """Maps [n, channels, side, side] of a frame as its features are pooled."""
