"""InternVL: tiles of a fixed size, of each of which four patches make one token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from methods.adapters._decoder import LlavaLike
from methods.adapters._shuffled import ShuffledTower
from methods.family import EncoderCall, adapter
from methods.sizes import Segment


@adapter("InternVLForConditionalGeneration")
class InternVLAdapter(LlavaLike, ShuffledTower):
    """Names the parts of an `InternVLForConditionalGeneration`; a tile is a segment."""

    @property
    def has_cls(self) -> bool:
        return True

    @property
    def vision_config(self) -> Any:
        return self.model.config.vision_config

    @property
    def tower_layers(self) -> Sequence[Any]:
        inner: Any = self.tower
        return inner.encoder.layer

    def attention(self, layer: Any) -> nn.Module:
        return layer.attention if hasattr(layer, "attention") else layer.self_attn

    @property
    def feature_place(self) -> int:
        layer = self.model.config.vision_feature_layer
        return (layer if layer < 0 else layer - 1) % len(self.tower_layers)

    @property
    def norm_after_tower(self) -> nn.Module | None:
        inner: Any = self.tower
        return inner.layernorm if self.model.config.vision_feature_layer == -1 else None

    @property
    def side(self) -> int:
        return self.vision_config.image_size[0] // self.vision_config.patch_size[0]

    @property
    def square(self) -> int:
        return round(1 / self.model.config.downsample_ratio)

    def project(self, features: Tensor) -> Tensor:
        return self.projector(features)

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        tiles, tokens = call.output.pooler_output.shape[:2]
        side = round(tokens**0.5)
        return [(Segment(side, side, has_cls=False),)] * tiles
