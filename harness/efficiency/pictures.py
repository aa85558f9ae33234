"""Random images of one prompt, as each family of models takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from methods.adapters import adapter_for
from methods.encoder_calls import EncoderCalls

_CROPS = 4
"""Beside the view of the whole: an image of twice a crop's side."""
_PATCHES = 72
"""Along each side, where a model takes any number of them: 1,296 tokens of 2 × 2 patches."""

Drawn = dict[str, Tensor]
_Draw = Callable[[Any, int, Generator], Drawn]


def drawn(model: Any, images: int, generator: Generator) -> Drawn:
    """What the model is given beside the token ids, normal, float32 on the CPU; the first dimension
    is that of a batch, or of its images.
    """
    kind = model.config.model_type
    return _OF_A_KIND.get(kind, _views)(model.config, images, generator)


def visual_tokens(model: Any, inputs: Drawn) -> int:
    """Of a prompt with these images on the model's device, by asking its tower."""
    adapter = adapter_for(model)
    calls = EncoderCalls(adapter)
    encode = calls.seeing("image", adapter.body.get_image_features)
    with torch.no_grad():
        encode(**inputs)
    return sum(s.tokens for segments in calls.encoded["image"] for s in segments)


def _views(config: Any, images: int, generator: Generator) -> Drawn:
    vision = config.vision_config
    one = (vision.num_channels, *_sides(vision))
    pixels = [torch.randn(one, generator=generator) for _ in range(images)]
    return {"pixel_values": torch.stack(pixels)}


def _crops(config: Any, images: int, generator: Generator) -> Drawn:
    height, width = _sides(config.vision_config)
    pixels = torch.randn(images, 1 + _CROPS, 3, height, width, generator=generator)
    sizes = torch.tensor([[2 * height, 2 * width]] * images)
    return {"pixel_values": pixels, "image_sizes": sizes}


def _counted_crops(config: Any, images: int, generator: Generator) -> Drawn:
    return {
        **_crops(config, images, generator),
        "batch_num_images": torch.tensor([images]),
    }


def _tiles(config: Any, images: int, generator: Generator) -> Drawn:
    return _views(config, (1 + _CROPS) * images, generator)


def _tiles_of_samples(config: Any, images: int, generator: Generator) -> Drawn:
    return {name: value[None] for name, value in _tiles(config, images, generator).items()}


def _patches(config: Any, images: int, generator: Generator) -> Drawn:
    vision = config.vision_config
    values = 3 * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.randn(images * _PATCHES**2, values, generator=generator)
    return {
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, _PATCHES, _PATCHES]] * images),
    }


def _sides(vision: Any) -> tuple[int, int]:
    side = vision.image_size
    return (side, side) if isinstance(side, int) else tuple(side)


_OF_A_KIND: dict[str, _Draw] = {
    "llava_next": _crops,
    "llava_onevision": _counted_crops,
    "internvl": _tiles,
    **dict.fromkeys(("idefics3", "smolvlm"), _tiles_of_samples),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), _patches),
}
