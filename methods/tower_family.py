"""What a family owes in addition where methods select in its vision tower."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from methods.encoding import Encoded, attending, matrices
from methods.errors import PruningError
from methods.family import Adapter
from methods.sizes import Segment, Sizes


class TowerAdapter(Adapter):
    """One whose vision tower methods may select in: it is called once for all images of a batch,
    each of which is one of its rows, and one segment or, with `crops`, one crop of a segment.
    """

    crops: ClassVar[bool] = False

    @property
    @abstractmethod
    def vision_config(self) -> Any:
        """The tower's configuration, from which transformers makes its masks."""

    @property
    @abstractmethod
    def tower_layers(self) -> Sequence[Any]:
        """The tower's layers: each gets hidden states [B, rows, D] first, CLS in row 0."""

    @property
    @abstractmethod
    def feature_place(self) -> int:
        """Which of the tower's layers, counted from 0, puts out the features."""

    def tower_mlp(self, layer: Any) -> tuple[nn.Module, nn.Module]:
        """Of a tower layer: the norm before its MLP, and the MLP, whose result is added to what
        the norm was given and leaves the layer. Only for methods that cut between layers.
        """
        raise PruningError(f"between its tower's layers a {self.name} is not cut")

    def check_tower_call(self, arguments: Mapping[str, Any]) -> None:
        """Raises PruningError where what the tower was called with, by name, is not supported."""

    def token_patches(self, device: torch.device) -> Tensor | None:
        """int64 [tokens, n]: the patches that each token of a tower image is made of; None where
        each is made of one.
        """
        return None

    def as_projected(self, features: Tensor) -> Tensor:
        """What the layer that is used puts out, [i, rows, width], as it is projected: [i, rows or
        tokens, width].
        """
        return features

    @property
    @abstractmethod
    def projector(self) -> nn.Module:
        """What makes the language model's embeddings of the tower's features."""

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Features [B, n, width], as they are projected, to the language model's [B, n, D]."""

    @property
    @abstractmethod
    def side(self) -> int:
        """Patches along each side of a tower image."""

    def tower_shape(self) -> dict[str, int]:
        vision = self.vision_config
        return {
            "tower_layers": len(self.tower_layers),
            "tower_width": vision.hidden_size,
            "tower_heads": vision.num_attention_heads,
            "tower_matrices": self._matrices,
            "projector_matrices": matrices([self.projector]),
        }

    @cached_property
    def _matrices(self) -> int:
        return matrices([self.tower])

    def encoded(self, segment: Segment) -> Encoded:
        rows, images = self.side**2 + self.has_cls, segment.tower_images
        pairs = len(self.tower_layers) * rows**2
        flops = 2 * rows * self._matrices + attending(pairs, self.vision_config.hidden_size)
        return Encoded(rows, self.has_cls, images * flops, images * segment.patches)

    def sizes_of(self, segments: tuple[Segment, ...]) -> Sizes:
        return Sizes(len(self.layers), segments, self.feature_place)


def with_tower(adapter: Adapter, what: str, crops: bool) -> TowerAdapter:
    """The adapter, for `what` needs its tower. Raises PruningError where that is not defined.

    `crops`: whether it is defined for the crops of an image.
    """
    if not isinstance(adapter, TowerAdapter) or (adapter.crops and not crops):
        raise PruningError(f"{what} is not defined here for {adapter.name}: {adapter.tower_stages}")
    return adapter
