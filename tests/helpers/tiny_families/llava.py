"""LLaVA's families: pictures cut into crops, videos of frames."""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import Any

import torch
import transformers

from tiny_families.parts import (
    IMAGE,
    TOWER,
    VIDEO,
    Inputs,
    family,
    left_padded,
    lengths,
    made,
    noise,
    text_config,
    two_and_one,
    words,
)

PINPOINTS = [[28, 56], [56, 28], [56, 56], [28, 84], [84, 28]]


@family
def llava_next() -> tuple[Any, Inputs]:
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**TOWER, projection_dim=32),
        text_config=text_config(transformers.LlamaConfig),
        image_token_index=IMAGE,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = made(transformers.LlavaNextForConditionalGeneration, config)
    images = {
        "pixel_values": noise(3, 5, 3, 28, 28),
        "image_sizes": torch.tensor([[40, 60], [60, 25], [50, 50]]),
    }
    return model, {**two_and_one(lengths(model, **images)), **images}


@family
def onevision() -> tuple[Any, Inputs]:
    """Two images in the first prompt, which are not cut into crops, and one in the second."""
    model = _onevision()
    images = {
        "pixel_values": noise(3, 5, 3, 35, 35),
        "image_sizes": torch.tensor([[40, 60], [60, 25], [55, 50]]),
        "batch_num_images": torch.tensor([2, 1]),
    }
    return model, {**two_and_one(lengths(model, **images)), **images}


@family
def onevision_crops() -> tuple[Any, Inputs]:
    """An image in each prompt, of crops that are not resampled."""
    model = _onevision()
    images = {
        "pixel_values": noise(2, 5, 3, 35, 35),
        "image_sizes": torch.tensor([[30, 70], [60, 25]]),
    }
    first, second = ([IMAGE] * n for n in lengths(model, **images))
    prompts = left_padded(words(9, 1) + first + words(6, 3), words(4, 4) + second + words(5, 5))
    return model, {**prompts, **images}


@family
def onevision_with_video() -> tuple[Any, Inputs]:
    """An image in the first prompt, a video and then an image in the second."""
    model = _onevision()
    images = {
        "pixel_values": noise(2, 5, 3, 35, 35),
        "image_sizes": torch.tensor([[40, 60], [60, 25]]),
    }
    first, second = ([IMAGE] * n for n in lengths(model, **images))
    video = [VIDEO] * (2 * 9 + 1)  # 3 × 3 tokens of each frame's 5 × 5, and one newline
    prompts = left_padded(
        words(9, 1) + first + words(6, 3),
        words(4, 4) + video + words(5, 5) + second + words(5, 6),
    )
    return model, {**prompts, **images, "pixel_values_videos": noise(1, 2, 3, 35, 35, seed=5)}


def two_videos(tokens: int) -> Inputs:
    """A video in each prompt, of this many tokens."""
    video = [VIDEO] * tokens
    return left_padded(words(9, 1) + video + words(6, 3), words(4, 4) + video + words(5, 5))


@family
def onevision_videos() -> tuple[Any, Inputs]:
    """Videos of six frames, two of which are alike."""
    pixels = noise(2, 6, 3, 35, 35, seed=6)
    pixels[:, 3] = pixels[:, 2] + 0.1 * pixels[:, 3]
    return _onevision(), {**two_videos(6 * 9 + 1), "pixel_values_videos": pixels}


@cache
def _onevision() -> Any:
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            **{**TOWER, "image_size": 35}, vision_use_head=False
        ),
        text_config=text_config(transformers.Qwen2Config),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=[[35 * high // 28, 35 * wide // 28] for high, wide in PINPOINTS],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_3",
    )
    return made(transformers.LlavaOnevisionForConditionalGeneration, config)


@family
def llava_next_video() -> tuple[Any, Inputs]:
    """A video and then an image in the first prompt, a video in the second."""
    config = transformers.LlavaNextVideoConfig(
        vision_config=transformers.CLIPVisionConfig(**TOWER, projection_dim=32),
        text_config=text_config(transformers.LlamaConfig),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        spatial_pool_mode="average",
        spatial_pool_stride=2,
    )
    model = made(transformers.LlavaNextVideoForConditionalGeneration, config)
    images = {"pixel_values": noise(1, 5, 3, 28, 28), "image_sizes": torch.tensor([[40, 60]])}
    (image,) = lengths(model, **images)
    video = [VIDEO] * (6 * 4)
    prompts = left_padded(
        words(9, 1) + video + words(3, 2) + [IMAGE] * image + words(6, 3),
        words(4, 4) + video + words(5, 5),
    )
    return model, {**prompts, **images, "pixel_values_videos": noise(2, 6, 3, 28, 28, seed=5)}


@family
def video_llava() -> tuple[Any, Inputs]:
    """A video in the first prompt, an image and then a video in the second."""
    config = transformers.VideoLlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**TOWER, projection_dim=32),
        text_config=text_config(transformers.LlamaConfig),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = made(transformers.VideoLlavaForConditionalGeneration, config)
    video = [VIDEO] * (5 * 17)
    prompts = left_padded(
        words(9, 1) + video + words(6, 3),
        words(4, 4) + [IMAGE] * 16 + words(2, 6) + video + words(5, 5),
    )
    # releases before 5.23 name the images' otherwise
    images = next(iter(signature(model.model.get_image_features).parameters))
    return model, {
        **prompts,
        images: noise(1, 3, 28, 28),
        "pixel_values_videos": noise(2, 5, 3, 28, 28, seed=5),
    }
