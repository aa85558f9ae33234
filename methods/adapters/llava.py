"""LLaVA-1.5: CLIP or SigLIP tower on a fixed square grid, MLP projector, Llama-like decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from methods.attention import QueriesKeys
from methods.interface import ModelShape, PruningError, Segment, Sizes
from methods.tensors import gather_rows

_WITH_CLS = ("clip_vision_model",)
_WITHOUT_CLS = ("siglip_vision_model",)


class LlavaAdapter:
    """Names the parts of a `LlavaForConditionalGeneration`; changes nothing."""

    def __init__(self, model: Any) -> None:
        vision, kind = model.config.vision_config, model.config.vision_config.model_type
        if kind not in _WITH_CLS + _WITHOUT_CLS:
            allowed = ", ".join(_WITH_CLS + _WITHOUT_CLS)
            raise PruningError(f"vision tower {kind} is not supported; allowed: {allowed}")
        self.has_cls = kind in _WITH_CLS
        strategy = model.config.vision_feature_select_strategy
        if (strategy == "default") != self.has_cls:
            raise PruningError(f"vision_feature_select_strategy {strategy!r} does not fit a {kind}")
        self.feature_layer = model.config.vision_feature_layer
        if not isinstance(self.feature_layer, int):
            raise PruningError("a tower whose features come from several layers is not supported")
        deepest = vision.num_hidden_layers
        if self.feature_layer == 0 or abs(self.feature_layer) > deepest:
            raise PruningError(
                f"the vision tower has no layer {self.feature_layer}; vision_feature_layer is "
                f"1 to {deepest}, or -{deepest} to -1"
            )
        self.model = model
        self.body: Any = model.model
        self.text_model: Any = model.get_decoder()
        self.text_config = model.config.get_text_config()
        self.layers: Sequence[Any] = self.text_model.layers[: self.text_config.num_hidden_layers]
        self.tower: Any = model.model.vision_tower
        self.projector: Any = model.model.multi_modal_projector
        self.head: Any = model.get_output_embeddings()
        self.side = vision.image_size // vision.patch_size
        self.vision_config = vision
        inner = getattr(self.tower, "vision_model", self.tower)
        self.tower_layers: Sequence[Any] = inner.encoder.layers
        last = self.feature_layer if self.feature_layer < 0 else self.feature_layer - 1
        self.feature_place = last % len(self.tower_layers)

    @property
    def window(self) -> int | None:
        """Tokens that a decoder layer with a sliding window attends to; None without such layers.

        Raises PruningError for layers that attend in yet another way.
        """
        kinds = set(getattr(self.text_config, "layer_types", None) or ())
        if other := kinds - {"full_attention", "sliding_attention"}:
            raise PruningError(f"decoder layers of {', '.join(sorted(other))} cannot be pruned")
        sliding = not kinds or "sliding_attention" in kinds
        return getattr(self.text_config, "sliding_window", None) if sliding else None

    @property
    def tower_layer(self) -> nn.Module:
        """The tower layer whose output is used, with its keys and attention."""
        return self.tower_layers[self.feature_place]

    def tower_mlp(self, layer: Any) -> tuple[nn.Module, nn.Module]:
        """Of a tower layer: the norm before its MLP, and the MLP, whose result is added to what
        the norm was given and leaves the layer.
        """
        return layer.layer_norm2, layer.mlp

    def attention(self, layer: Any) -> nn.Module:
        """The attention module of a tower or decoder layer."""
        return layer.self_attn

    def visual(self, input_ids: Tensor) -> Tensor:
        """bool [B, L]: where image tokens stand."""
        return input_ids == self.model.config.image_token_id

    def sizes(self, tokens: int) -> Sizes:
        """Sizes of a sample with this many visual tokens, all of whole images.

        Raises PruningError for any other count.
        """
        segment = Segment(self.side, self.side, has_cls=self.has_cls)
        if tokens % segment.tokens:
            raise PruningError(f"{tokens} image tokens are no whole images of {segment.tokens}")
        images = tokens // segment.tokens
        return Sizes(len(self.layers), (segment,) * images, self.feature_place)

    def rotary(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [B, L, d] of position ids [B, L]."""
        return self.text_model.rotary_emb(hidden, position_ids=positions)

    def unrotated(self, states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """States [b, H, r, d] as they were before RoPE by cos and sin [b, r, d]: float32."""
        # here, so that naming the supported models does not take transformers' seconds
        from transformers.models.llama.modeling_llama import rotate_half

        cos, sin = (part[:, None].float() for part in rotary)
        states = states.float()
        return (states * cos - rotate_half(states) * sin) / (cos.square() + sin.square())

    @property
    def norm(self) -> nn.Module:
        """The norm after the last decoder layer."""
        return self.text_model.norm

    @property
    def inverse_frequencies(self) -> Tensor:
        """RoPE's angle per position, float32 [head_dim / 2]."""
        return self.text_model.rotary_emb.inv_freq

    def queries_keys(
        self, layer: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], rows: Tensor
    ) -> QueriesKeys:
        """What a decoder layer makes of the states [B, L, D] entering it, after RoPE: q of `rows`
        int64 [B, r] and k of all.
        """
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

    def project(self, features: Tensor) -> Tensor:
        """Tower features [b, n, D] to the language model's embeddings."""
        return self.projector(features)

    def shape(self) -> ModelShape:
        text, vision = self.text_config, self.model.config.vision_config
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
            tower_rows=self.side**2 + self.has_cls,
            patch_values=vision.num_channels * vision.patch_size**2,
            projector_inner=text.hidden_size,
            image_tokens=self.side**2,
        )
