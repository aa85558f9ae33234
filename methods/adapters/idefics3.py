"""Idefics3 and SmolVLM: tiles of a fixed size with text between them, whose patches are merged."""

from __future__ import annotations

from torch import nn

from methods.adapters._decoder import LlamaLike
from methods.family import EncoderCall, adapter
from methods.sizes import Segment


@adapter("Idefics3ForConditionalGeneration")
@adapter("SmolVLMForConditionalGeneration")
class Idefics3Adapter(LlamaLike):
    """Names the parts of an Idefics3 or a SmolVLM; a tile is a segment.

    Images that pad a sample, all zeros, are not encoded.
    """

    tower_stages = (
        "its images are cut into tiles of merged patches, and what it does with them is not built"
    )

    @property
    def tower(self) -> nn.Module:
        return self.model.model.vision_model

    @property
    def projector(self) -> nn.Module:
        return self.model.model.connector

    @property
    def has_cls(self) -> bool:
        return False

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        config = self.model.config
        vision = config.vision_config
        side = vision.image_size // vision.patch_size // config.scale_factor
        # a tensor [tokens, D] a sample, or a tile, by release
        tokens = sum(rows.shape[0] for rows in call.output.pooler_output)
        return [(Segment(side, side, has_cls=False),)] * (tokens // side**2)
