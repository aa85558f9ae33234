"""Qwen2-VL and Qwen2.5-VL: free resolution, merged patches, positions of three axes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from methods.adapters._decoder import LlamaLike
from methods.encoding import Encoded, attending, matrices
from methods.errors import PruningError
from methods.family import EncoderCall, adapter
from methods.merged_tower import MergingTower
from methods.sizes import Segment


@adapter("Qwen2VLForConditionalGeneration")
class QwenVLAdapter(LlamaLike):
    """Names the parts of a Qwen-VL; an image, or a video, is a segment.

    Merging patches is the tower's last step, so that it has no projector of its own.
    """

    position_axes = 3
    tower_stages = "its tower merges patches, and what it does with them is not built"

    @property
    def tower(self) -> Any:
        return self.model.model.visual

    @property
    def projector(self) -> None:
        return None

    @property
    def has_cls(self) -> bool:
        return False

    def tower_shape(self) -> dict[str, int]:
        tower, vision = self.tower, self.model.config.vision_config
        return {
            "tower_layers": len(tower.blocks),
            "tower_width": self._width,
            "tower_heads": vision.num_heads,
            "tower_matrices": matrices([tower]),
        }

    @property
    def _width(self) -> int:
        return self.tower.patch_embed.embed_dim

    @cached_property
    def _matrices(self) -> tuple[int, int]:
        """Those that multiply patches, and those of all mergers, which multiply tokens."""
        mergers = [self.tower.merger, *getattr(self.tower, "deepstack_merger_list", ())]
        merging = matrices(mergers)
        return matrices([self.tower]) - merging, merging

    def encoded(self, segment: Segment) -> Encoded:
        tokens = segment.h * segment.w
        rows = tokens * segment.merged**2
        of_patches, of_tokens = self._matrices
        flops = 2 * (rows * of_patches + tokens * of_tokens)
        flops += attending(self.pairs(segment), self._width)
        return Encoded(rows, False, segment.t * flops, 0)

    def pairs(self, segment: Segment) -> int:
        """Rows of the tower that see a row of the same frame, over all layers."""
        return len(self.tower.blocks) * (segment.h * segment.w * segment.merged**2) ** 2

    def segments(self, call: EncoderCall) -> list[tuple[Segment, ...]]:
        merged = self.model.config.vision_config.spatial_merge_size
        grids = torch.as_tensor(call.arguments[f"{call.kind}_grid_thw"]).tolist()
        return [
            (Segment(h // merged, w // merged, t, call.kind, has_cls=False, merged=merged),)
            for t, h, w in grids
        ]


@adapter("Qwen2_5_VLForConditionalGeneration")
class WindowedQwenVLAdapter(QwenVLAdapter, MergingTower):
    """Its tower goes through an image window by window, row by row in each; some layers see the
    whole image.
    """

    @property
    def tower_layers(self) -> Sequence[nn.Module]:
        return self.tower.blocks

    def seeing_layer(self, place: int) -> nn.Module:
        if place not in self.model.config.vision_config.fullatt_block_indexes:
            last = len(self.tower_layers) - 1
            which = "the last layer" if place == last else f"layer {place}"
            raise PruningError(
                f"what rows receive is not defined here for this Qwen2.5-VL: {which} of the vision "
                "tower attends within windows only"
            )
        return self.tower_layers[place]

    def attention(self, layer: Any) -> nn.Module:
        return layer.attn if hasattr(layer, "attn") else super().attention(layer)

    def frame_rows(self, segment: Segment) -> int:
        return segment.frame_tokens * segment.merged**2

    def pairs(self, segment: Segment) -> int:
        seeing_all = len(set(self.model.config.vision_config.fullatt_block_indexes))
        side = self._window
        within = prod(
            sum(min(side, length - i) ** 2 for i in range(0, length, side))
            for length in (segment.h, segment.w)
        )
        whole = (segment.h * segment.w) ** 2
        found = seeing_all * whole + (len(self.tower_layers) - seeing_all) * within
        return found * segment.merged**4

    @property
    def _window(self) -> int:
        """Tokens along each side of a window."""
        vision = self.model.config.vision_config
        return vision.window_size // vision.patch_size // vision.spatial_merge_size

    def of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        tokens = states.unflatten(2, (segment.frame_tokens, -1)).mean(3)
        first_to_last = self.tower_order(segment).to(states.device)
        return tokens[:, :, first_to_last.argsort()]

    def tower_order(self, segment: Segment) -> Tensor:
        """int64 [tokens]: which of a frame's tokens are the tower's first, second …"""
        side = self._window
        row, column = torch.arange(segment.h)[:, None], torch.arange(segment.w)
        windows = row // side * -(-segment.w // side) + column // side
        return windows.flatten().argsort(stable=True)
