"""Qwen's families: images and videos of any size, whose positions have three axes."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers

from tiny_families.parts import (
    BEGIN,
    END,
    IMAGE,
    VIDEO,
    Inputs,
    family,
    left_padded,
    made,
    noise,
    text_config,
    two_and_one,
    words,
)

MROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
MERGING = {
    **{"depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 4},
    **{"spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3},
}
MARKS = {
    **{"image_token_id": IMAGE, "video_token_id": VIDEO},
    **{"vision_start_token_id": BEGIN, "vision_end_token_id": END},
}


def on_axes(prompts: Inputs, grids: list[list[int]], kind: str = "image") -> Inputs:
    """Prompts with images, or videos, of so many patches in time, height and width."""
    grid, ids = torch.tensor(grids), prompts["input_ids"]
    pixels = "pixel_values" if kind == "image" else "pixel_values_videos"
    return {
        **prompts,
        "mm_token_type_ids": (ids == IMAGE).long() + 2 * (ids == VIDEO).long(),
        pixels: noise(int(grid.prod(1).sum()), 3 * 2 * 4 * 4),
        f"{kind}_grid_thw": grid,
    }


def merged_images() -> Inputs:
    return on_axes(two_and_one([15, 8, 16]), [[1, 6, 10], [1, 8, 4], [1, 8, 8]])


@cache
def qwen2_5() -> Any:
    windows = {"window_size": 16, "fullatt_block_indexes": [0, 2], "out_hidden_size": 32}
    config = transformers.Qwen2_5_VLConfig(
        vision_config={**MERGING, **windows, "tokens_per_second": 4},
        text_config=text_config(dict, rope_parameters=MROPE),
        **MARKS,
    )
    return made(transformers.Qwen2_5_VLForConditionalGeneration, config)


@family
def qwen2_5_vl() -> tuple[Any, Inputs]:
    return qwen2_5(), merged_images()


@family
def qwen2_5_vl_video() -> tuple[Any, Inputs]:
    """Videos whose positions in time overtake those of the text that follows."""
    first, second = ([BEGIN] + [VIDEO] * n + [END] for n in (18, 12))
    prompts = left_padded(words(9, 1) + first + words(6, 3), words(4, 4) + second + words(5, 5))
    inputs = on_axes(prompts, [[3, 4, 6], [2, 6, 4]], "video")
    return qwen2_5(), {**inputs, "second_per_grid_ts": torch.tensor([2.0, 1.0])}


@family
def qwen2_5_vl_both() -> tuple[Any, Inputs]:
    """An image and then a video in the first prompt, a video and then an image in the second."""
    image, first, second = (
        [BEGIN] + [kind] * n + [END] for kind, n in ((IMAGE, 8), (VIDEO, 36), (VIDEO, 30))
    )
    prompts = left_padded(
        words(9, 1) + image + words(2, 2) + first + words(6, 3),
        words(4, 4) + second + words(3, 6) + image + words(5, 5),
    )
    inputs = on_axes(prompts, [[6, 4, 6], [5, 6, 4]], "video")
    images = on_axes(inputs, [[1, 8, 4], [1, 4, 8]])
    return qwen2_5(), {**images, "second_per_grid_ts": torch.tensor([2.0, 1.0])}


@cache
def qwen2() -> Any:
    config = transformers.Qwen2VLConfig(
        vision_config={**MERGING, "embed_dim": 32, "mlp_ratio": 2},
        text_config=text_config(dict, rope_parameters=MROPE),
        **MARKS,
    )
    return made(transformers.Qwen2VLForConditionalGeneration, config)


@family
def qwen2_vl() -> tuple[Any, Inputs]:
    return qwen2(), merged_images()


@family
def qwen2_vl_video() -> tuple[Any, Inputs]:
    first, second = ([BEGIN] + [VIDEO] * n + [END] for n in (30, 24))
    prompts = left_padded(words(9, 1) + first + words(6, 3), words(4, 4) + second + words(5, 5))
    return qwen2(), on_axes(prompts, [[5, 4, 6], [4, 6, 4]], "video")


@cache
def qwen3() -> Any:
    deep = {"depth": 4, "deepstack_visual_indexes": [0, 1, 2], "num_position_embeddings": 36}
    config = transformers.Qwen3VLConfig(
        vision_config={**MERGING, **deep, "out_hidden_size": 32},
        text_config=text_config(
            dict, head_dim=8, rope_parameters={**MROPE, "mrope_interleaved": True}
        ),
        **MARKS,
    )
    model = made(transformers.Qwen3VLForConditionalGeneration, config)
    for name, weights in model.named_parameters():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            weights.data.add_(noise(*weights.shape) * 0.5)
    return model


@family
def qwen3_vl() -> tuple[Any, Inputs]:
    return qwen3(), merged_images()


@family
def qwen3_vl_video() -> tuple[Any, Inputs]:
    """An image and a video of three frames in the first prompt, a video of two in the second; text
    stands before every frame.
    """

    def video(frames: int, tokens: int, seed: int) -> list[int]:
        frame = [BEGIN] + [VIDEO] * tokens + [END]
        return [token for i in range(frames) for token in words(2, seed + i) + frame]

    image = [BEGIN] + [IMAGE] * 8 + [END]
    prompts = left_padded(
        words(9, 1) + video(3, 6, 30) + image + words(6, 3),
        words(4, 4) + video(2, 6, 40) + words(5, 5),
    )
    videos = on_axes(prompts, [[3, 4, 6], [2, 6, 4]], "video")
    return qwen3(), on_axes(videos, [[1, 8, 4]])
