"""Tiles of a fixed size, of which a square of patches, side by side, makes one token."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from methods.tower_family import TowerAdapter


class ShuffledTower(TowerAdapter):
    """Its tiles are tower images of `side`² patches, and a token is made of `square`² of these."""

    crops = True
    tower_stages = "its images are cut into tiles of merged patches, and that is not built for them"

    @property
    @abstractmethod
    def square(self) -> int:
        """Patches along each side of a token."""

    @property
    @abstractmethod
    def norm_after_tower(self) -> nn.Module | None:
        """What the features go through before they are projected."""

    def tower_shape(self) -> dict[str, int]:
        shape = super().tower_shape()
        return {**shape, "projected_width": self.square**2 * shape["tower_width"]}

    def token_patches(self, device: torch.device) -> Tensor:
        patch = torch.arange(self.side**2, device=device)
        tokens = self.side // self.square
        return patch.reshape(tokens, self.square, tokens, -1).transpose(1, 2).reshape(tokens**2, -1)

    def as_projected(self, features: Tensor) -> Tensor:
        norm = self.norm_after_tower
        patches = (features if norm is None else norm(features))[:, int(self.has_cls) :]
        return patches[:, self.token_patches(features.device)].flatten(2)
