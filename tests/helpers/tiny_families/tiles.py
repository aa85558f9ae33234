"""Families of which an image is several tiles of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers

from tiny_families.parts import (
    BEGIN,
    END,
    FAMILIES,
    IMAGE,
    TOWER,
    Inputs,
    family,
    left_padded,
    made,
    noise,
    text_config,
    two_and_one,
    words,
)


@family
def internvl() -> tuple[Any, Inputs]:
    """Images of 3 and 1 tiles in the first prompt, of 5 in the second."""
    tower = {**TOWER, "image_size": [28, 28], "patch_size": [7, 7]}
    config = transformers.InternVLConfig(
        vision_config={**tower, "use_absolute_position_embeddings": True},
        text_config=text_config(transformers.Qwen2Config).to_dict(),
        image_token_id=IMAGE,
        image_seq_length=4,
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    model = made(transformers.InternVLForConditionalGeneration, config)
    return model, {**two_and_one([12, 4, 20]), "pixel_values": noise(9, 3, 28, 28)}


@family
def internvl_frames() -> tuple[Any, Inputs]:
    """Videos of five and four frames, each an image of one tile with text before it."""

    def frames(count: int, seed: int) -> list[int]:
        tile = [BEGIN] + [IMAGE] * 4 + [END]
        return [token for i in range(count) for token in words(2, seed + i) + tile]

    prompts = left_padded(
        words(5, 1) + frames(5, 20) + words(6, 3), words(3, 4) + frames(4, 30) + words(4, 5)
    )
    return FAMILIES["internvl"]()[0], {**prompts, "pixel_values": noise(9, 3, 28, 28)}


def tiled(config: Callable[..., Any], kind: Callable[[Any], Any]) -> tuple[Any, Inputs]:
    """Four tiles in the first prompt, three in the second, text before each."""

    def tiles(count: int, seed: int) -> list[int]:
        return [token for i in range(count) for token in words(2, seed + i) + [IMAGE] * 4]

    made_config = config(
        vision_config=TOWER,
        text_config=text_config(transformers.LlamaConfig).to_dict(),
        **{"image_token_id": IMAGE, "scale_factor": 2, "pad_token_id": 0},
        tie_word_embeddings=False,
    )
    pixels = noise(2, 4, 3, 28, 28)
    pixels[1, 3] = 0  # no tile: fills up the second sample
    prompts = left_padded(
        words(5, 1) + tiles(4, 20) + words(6, 3), words(3, 4) + tiles(3, 30) + words(4, 5)
    )
    return made(kind, made_config), {**prompts, "pixel_values": pixels}


@family
def idefics3() -> tuple[Any, Inputs]:
    return tiled(transformers.Idefics3Config, transformers.Idefics3ForConditionalGeneration)


@family
def smolvlm() -> tuple[Any, Inputs]:
    return tiled(transformers.SmolVLMConfig, transformers.SmolVLMForConditionalGeneration)
