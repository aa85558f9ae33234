"""Tiny random models of many families, each with a left-padded batch of two and images of three
sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import signature
from typing import Any

import torch
import transformers
from torch import Tensor

IMAGE, VIDEO, BEGIN, END, VOCABULARY = 120, 121, 122, 123, 128
PINPOINTS = [[28, 56], [56, 28], [56, 56], [28, 84], [84, 28]]
Inputs = dict[str, Any]
FAMILIES: dict[str, Callable[[], tuple[Any, Inputs]]] = {}


def family(build: Callable[[], tuple[Any, Inputs]]) -> Callable[[], tuple[Any, Inputs]]:
    """Make a model and its batch known by the function's name; they are built once."""
    FAMILIES[build.__name__] = cache(build)
    return FAMILIES[build.__name__]


def words(count: int, seed: int) -> list[int]:
    return torch.randint(1, 100, (count,), generator=_drawn(seed)).tolist()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=_drawn(seed))


def _drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def left_padded(*rows: list[int]) -> Inputs:
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        ),
    }


def two_and_one(counts: Sequence[int]) -> Inputs:
    """Two images in the first prompt, one in the second, each between markers."""
    first, second, third = ([BEGIN] + [IMAGE] * n + [END] for n in counts)
    return left_padded(
        words(5, 1) + first + words(3, 2) + second + words(6, 3), words(4, 4) + third + words(5, 5)
    )


def alone(inputs: Inputs, row: int, images: Mapping[str, slice]) -> Inputs:
    """One prompt of a batch without its padding, with its own part of the arguments in `images`."""
    own = inputs["attention_mask"][row].bool()
    text = {"input_ids", "attention_mask", "mm_token_type_ids"}
    return {
        name: value[row : row + 1, own] if name in text else value[images[name]]
        for name, value in inputs.items()
        if name in text or name in images
    }


def text_config(kind: Callable[..., Any], **more: Any) -> Any:
    return kind(
        **{
            **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6},
            **{"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY},
            **{"max_position_embeddings": 2048, "initializer_range": 0.3},
            **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
            **more,
        }
    )


TOWER = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3},
    **{"num_attention_heads": 2, "image_size": 28, "patch_size": 7},
}


def made(kind: Callable[[Any], Any], config: Any) -> Any:
    """A random model whose attention and images matter."""
    torch.manual_seed(3)
    model = kind(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() >= 2 and "embed_tokens" not in name:
                weights.add_(torch.randn_like(weights) * 0.08)
            elif "newline" in name:
                weights.copy_(torch.randn_like(weights) * 0.5)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def lengths(model: Any, **arguments: Any) -> list[int]:
    """Tokens of each image, as the model itself makes them."""
    with torch.no_grad():
        return [len(rows) for rows in model.model.get_image_features(**arguments).pooler_output]


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
