"""LLaVA-1.5: CLIP or SigLIP tower on a fixed square grid, MLP projector, Llama-like decoder."""

from __future__ import annotations

from methods.adapters._clip import ClipTower
from methods.adapters._decoder import LlavaLike
from methods.errors import PruningError
from methods.family import EncoderCall, adapter
from methods.sizes import ModelShape, Segment, Sizes


@adapter("LlavaForConditionalGeneration")
class LlavaAdapter(LlavaLike, ClipTower):
    """Names the parts of a `LlavaForConditionalGeneration`."""

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        return [(self._segment,)] * len(call.output.pooler_output)

    @property
    def _segment(self) -> Segment:
        return Segment(self.side, self.side, has_cls=self.has_cls)

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
            tower_rows=self.side**2 + self.has_cls,
            patch_values=vision.num_channels * vision.patch_size**2,
            projector_inner=text.hidden_size,
            image_tokens=self.side**2,
        )
