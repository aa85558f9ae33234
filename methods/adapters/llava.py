"""LLaVA-1.5: CLIP or SigLIP tower on a fixed square grid, MLP projector, Llama-like decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from methods.adapters._decoder import LlamaLike
from methods.errors import PruningError
from methods.family import EncoderCall, adapter
from methods.sizes import ModelShape, Segment, Sizes
from methods.tower_family import TowerAdapter

_WITH_CLS = ("clip_vision_model",)
_WITHOUT_CLS = ("siglip_vision_model",)


@adapter("LlavaForConditionalGeneration")
class LlavaAdapter(LlamaLike, TowerAdapter):
    """Names the parts of a `LlavaForConditionalGeneration`."""

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

    # --- parts ------------------------------------------------------------------------------

    @property
    def tower(self) -> nn.Module:
        return self.model.model.vision_tower

    @property
    def vision_config(self) -> Any:
        return self.model.config.vision_config

    @property
    def tower_layers(self) -> Sequence[Any]:
        inner: Any = getattr(self.tower, "vision_model", self.tower)
        return inner.encoder.layers

    @property
    def projector(self) -> nn.Module:
        return self.model.model.multi_modal_projector

    def tower_mlp(self, layer: Any) -> tuple[nn.Module, nn.Module]:
        return layer.layer_norm2, layer.mlp

    # --- sizes ------------------------------------------------------------------------------

    @property
    def has_cls(self) -> bool:
        return self.vision_config.model_type in _WITH_CLS

    @property
    def feature_place(self) -> int:
        layer = self.model.config.vision_feature_layer
        return (layer if layer < 0 else layer - 1) % len(self.tower_layers)

    @property
    def _side(self) -> int:
        """Patches along each side of an image."""
        return self.vision_config.image_size // self.vision_config.patch_size

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        return [(self._segment,)] * len(call.output.pooler_output)

    @property
    def _segment(self) -> Segment:
        return Segment(self._side, self._side, has_cls=self.has_cls)

    def sizes(self, tokens: int) -> Sizes:
        segment = self._segment
        if tokens % segment.tokens:
            raise PruningError(f"{tokens} image tokens are no whole images of {segment.tokens}")
        return self.sizes_of((segment,) * (tokens // segment.tokens))

    def shape(self) -> ModelShape:
        text, vision = self.text_config, self.vision_config
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return ModelShape(
            layers=len(self.layers),
            hidden_size=text.hidden_size,
            intermediate_size=text.intermediate_size,
            attention_heads=text.num_attention_heads,
            key_value_heads=text.num_key_value_heads,
            head_dim=head_dim,
            vocabulary=text.vocab_size,
            tower_layers=vision.num_hidden_layers,
            tower_width=vision.hidden_size,
            tower_heads=vision.num_attention_heads,
            tower_intermediate=vision.intermediate_size,
            tower_rows=self._side**2 + self.has_cls,
            patch_values=vision.num_channels * vision.patch_size**2,
            projector_inner=text.hidden_size,
            image_tokens=self._side**2,
        )

    def project(self, features: Tensor) -> Tensor:
        return self.projector(features)
