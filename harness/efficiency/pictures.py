"""Random images of one prompt, or a random video, as each family of models takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from harness.models.videos import check_takes_videos
from methods.adapters import adapter_for
from methods.encoder_calls import EncoderCalls

_CROPS = 4
"""Beside the view of the whole: an image of twice a crop's side."""
_PATCHES = 72
"""Along each side, where a model takes any number of them: 1,296 tokens of 2 × 2 patches."""
_FRAME_PATCHES = 36
"""The same of a frame: 324 tokens, where two frames make one patch in time."""

Drawn = dict[str, Tensor]
_Draw = Callable[[Any, int, Generator], Drawn]


def drawn(model: Any, images: int, frames: int | None, generator: Generator) -> Drawn:
    """What the model is given beside the token ids, normal, float32 on the CPU: so many images, or
    a video of so many frames; the first dimension is that of a batch, or of what is in it.

    Raises BadInput for a video where the model's family takes none.
    """
    kind = model.config.model_type
    if frames is None:
        return _OF_A_KIND.get(kind, _views)(model.config, images, generator)
    check_takes_videos(model)
    return _VIDEO_OF_A_KIND.get(kind, _frames)(model.config, frames, generator)


def encoded_tokens(model: Any, inputs: Drawn) -> list[int]:
    """Of each image, or of what of a video stands apart, on the model's device: asks its tower."""
    adapter = adapter_for(model)
    kind = "video" if "pixel_values_videos" in inputs else "image"
    calls = EncoderCalls(adapter)
    encode = calls.seeing(kind, getattr(adapter.body, f"get_{kind}_features"))
    with torch.no_grad():
        encode(**inputs)
    return [sum(s.tokens for s in segments) for segments in calls.encoded[kind]]


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
    grids = torch.tensor([[1, _PATCHES, _PATCHES]] * images)
    return {"pixel_values": _of_grids(config, grids, generator), "image_grid_thw": grids}


def _patches_in_time(config: Any, frames: int, generator: Generator) -> Drawn:
    times = -(-frames // config.vision_config.temporal_patch_size)
    grids = torch.tensor([[times, _FRAME_PATCHES, _FRAME_PATCHES]])
    return {"pixel_values_videos": _of_grids(config, grids, generator), "video_grid_thw": grids}


def _of_grids(config: Any, grids: Tensor, generator: Generator) -> Tensor:
    vision = config.vision_config
    values = 3 * vision.temporal_patch_size * vision.patch_size**2
    return torch.randn(int(grids.prod(1).sum()), values, generator=generator)


def _frames(config: Any, frames: int, generator: Generator) -> Drawn:
    return {"pixel_values_videos": _views(config, frames, generator)["pixel_values"][None]}


def _sides(vision: Any) -> tuple[int, int]:
    side = vision.image_size
    return (side, side) if isinstance(side, int) else tuple(side)


_QWENS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
_OF_A_KIND: dict[str, _Draw] = {
    "llava_next": _crops,
    "llava_onevision": _counted_crops,
    "internvl": _tiles,
    **dict.fromkeys(("idefics3", "smolvlm"), _tiles_of_samples),
    **dict.fromkeys(_QWENS, _patches),
}
_VIDEO_OF_A_KIND: dict[str, _Draw] = {
    "internvl": _views,
    **dict.fromkeys(_QWENS, _patches_in_time),
}
