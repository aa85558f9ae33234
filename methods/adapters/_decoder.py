"""The language model's side of a family whose decoder is built as Llama's is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from methods.attention import QueriesKeys
from methods.errors import PruningError
from methods.family import Adapter
from methods.tensors import gather_rows


class LlamaLike(Adapter):
    """Names the parts of a decoder whose layers norm, attend with rotated q and k, and add an MLP.

    Its model names image tokens by `image_token_id`, video tokens by `video_token_id` if any.
    """

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

    def attention(self, layer: Any) -> nn.Module:
        return layer.self_attn

    def decoder_mlp(self, layer: Any) -> tuple[nn.Module, nn.Module]:
        return layer.post_attention_layernorm, layer.mlp

    def kinds(self, input_ids: Tensor) -> Tensor:
        config = self.model.config
        kinds = (input_ids == config.image_token_id).byte()
        video = getattr(config, "video_token_id", None)
        return kinds if video is None else kinds + 2 * (input_ids == video).byte()

    # --- arithmetic -------------------------------------------------------------------------

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
        q = _of_heads(attention, "q", gather_rows(states, rows))
        k = _of_heads(attention, "k", states)
        own = tuple(gather_rows(part.expand(len(rows), -1, -1), rows) for part in rotary)
        q, _ = apply_rotary_pos_emb(q, q, *own)
        _, k = apply_rotary_pos_emb(k, k, *rotary)
        return QueriesKeys(q, k, attention.scaling)


class LlavaLike(LlamaLike):
    """The same of a model whose vision tower and projector are named as LLaVA's are."""

    @property
    def tower(self) -> nn.Module:
        return self.model.model.vision_tower

    @property
    def projector(self) -> nn.Module:
        return self.model.model.multi_modal_projector


def _of_heads(attention: Any, what: str, states: Tensor) -> Tensor:
    """Queries ("q") or keys ("k") of states [b, n, D] before RoPE: [b, heads, n, d].

    Some decoders norm each head's.
    """
    projected = getattr(attention, f"{what}_proj")(states).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{what}_norm", None)
    return (projected if norm is None else norm(projected)).transpose(1, 2)
