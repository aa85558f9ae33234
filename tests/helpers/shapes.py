"""The published shape of LLaVA-1.5-7B, for what is computed from shapes alone."""

from __future__ import annotations

from methods.interface import Segment, Sizes
from methods.sizes import ModelShape

LLAVA_7B = ModelShape(
    layers=32,
    hidden_size=4096,
    intermediate_size=11008,
    attention_heads=32,
    key_value_heads=32,
    head_dim=128,
    vocabulary=32064,
    tower_layers=23,
    tower_width=1024,
    tower_heads=16,
    tower_intermediate=4096,
    tower_rows=577,
    patch_values=588,
    projector_inner=4096,
    image_tokens=576,
)
ONE_IMAGE = Sizes(LLAVA_7B.layers, (Segment(24, 24),))
