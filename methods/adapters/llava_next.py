"""LLaVA-NeXT: crops of any resolution, a newline token after each row of the picture."""

from __future__ import annotations

from methods.adapters._anyres import AnyResolution
from methods.adapters._clip import ClipTower
from methods.family import EncoderCall, adapter
from methods.sizes import Segment


@adapter("LlavaNextForConditionalGeneration")
class LlavaNextAdapter(AnyResolution, ClipTower):
    """Names the parts of a `LlavaNextForConditionalGeneration`; an image is two segments."""

    crops = True

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        return [(self.whole(), self.picture(size)) for size in self.heights_and_widths(call)]
