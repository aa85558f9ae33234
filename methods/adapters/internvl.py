"""InternVL: tiles of a fixed size, of each of which four patches make one token."""

from __future__ import annotations

from methods.adapters._decoder import LlavaLike
from methods.family import EncoderCall, adapter
from methods.sizes import Segment


@adapter("InternVLForConditionalGeneration")
class InternVLAdapter(LlavaLike):
    """Names the parts of an `InternVLForConditionalGeneration`; a tile is a segment."""

    tower_stages = (
        "its images are cut into tiles of merged patches, and what it does with them is not built"
    )

    @property
    def has_cls(self) -> bool:
        return True

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        tiles, tokens = call.output.pooler_output.shape[:2]
        side = round(tokens**0.5)
        return [(Segment(side, side, has_cls=True),)] * tiles
