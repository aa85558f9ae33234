"""Idefics3 and SmolVLM: tiles of a fixed size with text between them, whose patches are merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from methods.adapters._decoder import LlamaLike
from methods.adapters._shuffled import ShuffledTower
from methods.errors import PruningError
from methods.family import EncoderCall, adapter
from methods.sizes import Segment


@adapter("Idefics3ForConditionalGeneration")
@adapter("SmolVLMForConditionalGeneration")
class Idefics3Adapter(LlamaLike, ShuffledTower):
    """Names the parts of an Idefics3 or a SmolVLM; a tile is a segment.

    Images that pad a sample, all zeros, are not encoded.
    """

    @property
    def tower(self) -> Any:
        return self.model.model.vision_model

    @property
    def projector(self) -> Any:
        return self.model.model.connector.modality_projection

    @property
    def has_cls(self) -> bool:
        return False

    @property
    def vision_config(self) -> Any:
        return self.model.config.vision_config

    @property
    def tower_layers(self) -> Sequence[Any]:
        return self.tower.encoder.layers

    @property
    def feature_place(self) -> int:
        return len(self.tower_layers) - 1

    @property
    def norm_after_tower(self) -> nn.Module:
        return self.tower.post_layernorm

    @property
    def side(self) -> int:
        return self.vision_config.image_size // self.vision_config.patch_size

    @property
    def square(self) -> int:
        return self.model.config.scale_factor

    def project(self, features: Tensor) -> Tensor:
        return self.projector(features)

    def check_tower_call(self, arguments: Mapping[str, Any]) -> None:
        mask = arguments.get("patch_attention_mask")
        if mask is not None and not mask.all():
            raise PruningError(
                f"what patches receive is not defined here for a {self.name} whose images are "
                "padded; let its processor cut them into tiles"
            )

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        side = self.side // self.square
        # a tensor [tokens, D] a sample, or a tile, by release
        tokens = sum(rows.shape[0] for rows in call.output.pooler_output)
        return [(Segment(side, side, has_cls=False),)] * (tokens // side**2)
