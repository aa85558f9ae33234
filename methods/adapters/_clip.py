"""A CLIP or SigLIP tower, of which methods may read, and which they may cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from methods.errors import PruningError
from methods.tower_family import TowerAdapter

_WITH_CLS = ("clip_vision_model",)
_WITHOUT_CLS = ("siglip_vision_model",)


class ClipTower(TowerAdapter):
    """Names the parts of the tower, whose features come from one of its layers."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        vision, kind = self.vision_config, self.vision_config.model_type
        if kind not in _WITH_CLS + _WITHOUT_CLS:
            allowed = ", ".join(_WITH_CLS + _WITHOUT_CLS)
            raise PruningError(f"vision tower {kind} is not supported; allowed: {allowed}")
        strategy = model.config.vision_feature_select_strategy
        if (strategy == "default") != self.has_cls:
            raise PruningError(f"vision_feature_select_strategy {strategy!r} does not fit a {kind}")
        feature_layer, deepest = model.config.vision_feature_layer, vision.num_hidden_layers
        if not isinstance(feature_layer, int):
            raise PruningError("a tower whose features come from several layers is not supported")
        if feature_layer == 0 or abs(feature_layer) > deepest:
            raise PruningError(
                f"the vision tower has no layer {feature_layer}; vision_feature_layer is "
                f"1 to {deepest}, or -{deepest} to -1"
            )

    @property
    def vision_config(self) -> Any:
        return self.model.config.vision_config

    @property
    def tower_layers(self) -> Sequence[Any]:
        inner: Any = getattr(self.tower, "vision_model", self.tower)
        return inner.encoder.layers

    def tower_mlp(self, layer: Any) -> tuple[nn.Module, nn.Module]:
        return layer.layer_norm2, layer.mlp

    @property
    def has_cls(self) -> bool:
        return self.vision_config.model_type in _WITH_CLS

    @property
    def feature_place(self) -> int:
        layer = self.model.config.vision_feature_layer
        return (layer if layer < 0 else layer - 1) % len(self.tower_layers)

    @property
    def side(self) -> int:
        """Patches along each side of a tower image."""
        return self.vision_config.image_size // self.vision_config.patch_size

    def project(self, features: Tensor) -> Tensor:
        return self.projector(features)
