"""The embedded video model: the image model's parts as a LLaVA-NeXT-Video.

Eight frames of 112 px in patches of 7 px, each pooled from 16 x 16 patches to 64 tokens: 512 visual
tokens. Decoder and tower are the image model's, whose depth is LLaVA-NeXT-Video-7B's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    LlavaForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
)

from harness.embedded import architecture, scenes
from harness.embedded.architecture import CHAT_TEMPLATE, MARKS, SHIPPED, TINY, Size
from harness.embedded.questions import IMAGE
from harness.embedded.scenes import PATCH
from harness.embedded.video.clips import GRID, SIDE
from harness.embedded.video.questions import VIDEO, VIDEO_MARK, WORDS

POOL = 2
"""Patches along one side of a token: transformers' processor counts with no other."""
VIDEO_TEMPLATE = CHAT_TEMPLATE.replace(
    "selectattr('type', 'equalto', 'image')", "selectattr('type', 'in', ['image', 'video'])"
).replace("'<image>\n'", "'<' + content['type'] + '>\n'")
PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
NEW_WORD_SPREAD = 0.3


def configuration(size: Size) -> LlavaNextVideoConfig:
    """A LLaVA-NeXT-Video configuration of the given size."""
    return LlavaNextVideoConfig(
        vision_config=architecture.tower_configuration(size, SIDE),
        text_config=architecture.decoder_configuration(size, len(WORDS)),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        spatial_pool_mode="average",
        spatial_pool_stride=POOL,
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=True,
    )


def build(size: Size = SHIPPED, *, seed: int = 0) -> LlavaNextVideoForConditionalGeneration:
    """A float32 model with random weights of the seed; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaNextVideoForConditionalGeneration(configuration(size))
    model.generation_config.do_sample = False
    return model


def build_tiny() -> LlavaNextVideoForConditionalGeneration:
    """A model of the same form that nothing has trained, for tests."""
    return build(TINY, seed=architecture.TINY_SEED).eval()


def load_images(directory: Path, model: LlavaNextVideoForConditionalGeneration) -> None:
    """Sets the parameters of `model` to those of a saved image model, its words matched by name.

    A frame takes the position embeddings of the middle of an image, whose windows the tower knows.
    A word that images did not need begins near the mean of those that they did.
    """
    saved = LlavaForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    known = AutoTokenizer.from_pretrained(directory).get_vocab()
    values, own = saved.state_dict(), model.state_dict()
    embedding = values["model.language_model.embed_tokens.weight"]
    random = torch.Generator().manual_seed(0)
    words = embedding.mean(0) + NEW_WORD_SPREAD * embedding.std() * torch.randn(
        len(WORDS), embedding.shape[1], generator=random
    )
    for i, word in enumerate(WORDS):
        if word in known:
            words[i] = embedding[known[word]]
    for name, value in values.items():
        if value.shape == embedding.shape:
            value = words
        elif name.endswith("position_embedding.weight"):
            value = torch.cat([value[:1], _middle(value[1:])])
        if name in own and own[name].shape == value.shape:
            own[name] = value
    model.load_state_dict(own)


def _middle(places: torch.Tensor) -> torch.Tensor:
    """[24 * 24, width] to [16 * 16, width]."""
    margin = (scenes.GRID - GRID) // 2
    square = places.unflatten(0, (scenes.GRID, scenes.GRID))
    return square[margin : margin + GRID, margin : margin + GRID].flatten(0, 1)


def processor() -> LlavaNextVideoProcessor:
    """The processor of a saved model: frames to 112 px, 64 placeholders a frame, left padding."""
    crop: Any = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    return LlavaNextVideoProcessor(
        video_processor=LlavaNextVideoVideoProcessor(**crop),
        image_processor=LlavaNextImageProcessor(**crop, image_grid_pinpoints=PINPOINTS),
        tokenizer=architecture.tokenizer(WORDS, {**MARKS, "video_token": VIDEO_MARK}),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        video_token=VIDEO_MARK,
        chat_template=VIDEO_TEMPLATE,
    )


def save(model: LlavaNextVideoForConditionalGeneration, directory: Path) -> None:
    """Writes model (bfloat16) and processor as a directory that the Auto classes load."""
    copy = LlavaNextVideoForConditionalGeneration(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    copy.bfloat16().save_pretrained(directory)
    processor().save_pretrained(directory)
