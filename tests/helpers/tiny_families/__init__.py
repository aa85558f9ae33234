"""Tiny random models of many families, each with a left-padded batch of two and images of three
sizes.
"""

from tiny_families import tiles  # makes its families known by being imported
from tiny_families.llava import PINPOINTS
from tiny_families.parts import (
    FAMILIES,
    IMAGE,
    TOWER,
    VIDEO,
    Inputs,
    alone,
    left_padded,
    made,
    noise,
    text_config,
)
from tiny_families.qwen import MERGING, MROPE

__all__ = [
    "FAMILIES",
    "IMAGE",
    "MERGING",
    "MROPE",
    "PINPOINTS",
    "TOWER",
    "VIDEO",
    "Inputs",
    "alone",
    "left_padded",
    "made",
    "noise",
    "text_config",
    "tiles",
]
