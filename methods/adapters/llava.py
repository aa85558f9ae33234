"""LLaVA-1.5: CLIP or SigLIP tower on a fixed square grid, MLP projector, Llama-like decoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from methods.attention import QueriesKeys
from methods.errors import PruningError
from methods.family import Adapter, adapter
from methods.sizes import ModelShape, Segment, Sizes
from methods.tensors import gather_rows

_WITH_CLS = ("clip_vision_model",)
_WITHOUT_CLS = ("siglip_vision_model",)


@adapter("LlavaForConditionalGeneration")
class LlavaAdapter(Adapter):
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
    def body(self) -> Any:
        return self.model.model

    @cached_property
    def text_model(self) -> Any:
        return self.model.get_decoder()

    @cached_property
    def text_config(self) -> Any:
        return self.model.config.get_text_config()

    @cached_property
    def layers(self) -> Sequence[Any]:
        return self.text_model.layers[: self.text_config.num_hidden_layers]

    @property
    def norm(self) -> nn.Module:
        return self.text_model.norm

    @property
    def head(self) -> nn.Module:
        return self.model.get_output_embeddings()

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

    def attention(self, layer: Any) -> nn.Module:
        return layer.self_attn

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

    def visual(self, input_ids: Tensor) -> Tensor:
        return input_ids == self.model.config.image_token_id

    def sizes(self, tokens: int) -> Sizes:
        segment = Segment(self._side, self._side, has_cls=self.has_cls)
        if tokens % segment.tokens:
            raise PruningError(f"{tokens} image tokens are no whole images of {segment.tokens}")
        images = tokens // segment.tokens
        return Sizes(len(self.layers), (segment,) * images, self.feature_place)

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

    # --- arithmetic -------------------------------------------------------------------------

    def project(self, features: Tensor) -> Tensor:
        return self.projector(features)

    @property
    def window(self) -> int | None:
        kinds = set(getattr(self.text_config, "layer_types", None) or ())
        if other := kinds - {"full_attention", "sliding_attention"}:
            raise PruningError(f"decoder layers of {', '.join(sorted(other))} cannot be pruned")
        sliding = not kinds or "sliding_attention" in kinds
        return getattr(self.text_config, "sliding_window", None) if sliding else None

    def rotary(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.text_model.rotary_emb(hidden, position_ids=positions)

    def unrotated(self, states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        # here, so that naming the supported models does not take transformers' seconds
        from transformers.models.llama.modeling_llama import rotate_half

        cos, sin = (part[:, None].float() for part in rotary)
        states = states.float()
        return (states * cos - rotate_half(states) * sin) / (cos.square() + sin.square())

    @property
    def inverse_frequencies(self) -> Tensor:
        return self.text_model.rotary_emb.inv_freq

    def queries_keys(
        self, layer: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], rows: Tensor
    ) -> QueriesKeys:
        # here, so that naming the supported models does not take transformers' seconds
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        module = self.layers[layer]
        attention, states = module.self_attn, module.input_layernorm(hidden)
        q, k = (
            projected.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for projected in (
                attention.q_proj(gather_rows(states, rows)),
                attention.k_proj(states),
            )
        )
        own = tuple(gather_rows(part.expand(len(rows), -1, -1), rows) for part in rotary)
        q, _ = apply_rotary_pos_emb(q, q, *own)
        _, k = apply_rotary_pos_emb(k, k, *rotary)
        return QueriesKeys(q, k, attention.scaling)
