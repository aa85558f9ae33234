"""Checkpoint directories of other families than LLaVA-1.5: tiny random models, whose processors
transformers makes of the embedded tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from tiny_families import MERGING, MROPE, PINPOINTS, TOWER, made, text_config

from harness.embedded.architecture import CHAT_TEMPLATE, tokenizer
from harness.embedded.questions import BEGIN, END, IMAGE, PAD, WORDS

_EACH = "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
VIDEO_TEMPLATE = CHAT_TEMPLATE.replace(
    _EACH, _EACH.replace("image", "video") + "{{ '<video>\n' }}{% endfor %}" + _EACH
)
"""Videos first, then images, then text."""
TEXT = {
    **{"vocab_size": len(WORDS) + 8, "pad_token_id": PAD, "bos_token_id": BEGIN},
    "eos_token_id": END,
}


def save_llava_next(directory: Path) -> None:
    """Crops of 28 pixels in patches of 7: 16 tokens a crop."""
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**TOWER, projection_dim=32),
        text_config=text_config(transformers.LlamaConfig, **TEXT),
        image_token_index=IMAGE,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    images = transformers.LlavaNextImageProcessor(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_grid_pinpoints=PINPOINTS,
    )
    processor = transformers.LlavaNextProcessor(
        images,
        tokenizer(),
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    save(made(transformers.LlavaNextForConditionalGeneration, config), processor, directory)


def save_onevision(directory: Path) -> None:
    """Crops of 35 pixels in patches of 7: 25 tokens a crop."""
    grids = [[35 * high // 28, 35 * wide // 28] for high, wide in PINPOINTS]
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            **{**TOWER, "image_size": 35}, vision_use_head=False
        ),
        text_config=text_config(transformers.Qwen2Config, **TEXT),
        **{"image_token_index": IMAGE, "video_token_index": len(WORDS)},
        **{"image_grid_pinpoints": grids, "vision_aspect_ratio": "anyres_max_3"},
    )
    with_videos = tokenizer()
    with_videos.add_special_tokens({"additional_special_tokens": ["<video>"]})
    side = {"size": {"height": 35, "width": 35}}
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(**side, image_grid_pinpoints=grids),
        with_videos,
        transformers.LlavaOnevisionVideoProcessor(**side),
        num_image_tokens=25,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_3",
        chat_template=VIDEO_TEMPLATE,
    )
    save(made(transformers.LlavaOnevisionForConditionalGeneration, config), processor, directory)


_SIZES = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
_PIXELS = {"size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}
_MARKS = ["<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


def save_qwen2_5_vl(directory: Path) -> None:
    """Patches of 4 pixels, four of which are a token; the marks of images are further tokens."""
    marked, marks = _marked()
    windows = {"window_size": 16, "fullatt_block_indexes": [1], "out_hidden_size": 32}
    config = transformers.Qwen2_5_VLConfig(
        vision_config={**MERGING, **windows},
        text_config=text_config(dict, rope_parameters=MROPE, **TEXT),
        **marks,
    )
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**_SIZES, **_PIXELS),
        marked,
        transformers.Qwen2VLVideoProcessor(**_SIZES, **_PIXELS),
        chat_template=_BETWEEN_MARKS,
    )
    save(made(transformers.Qwen2_5_VLForConditionalGeneration, config), processor, directory)


def save_qwen3_vl(directory: Path) -> None:
    """The same with features added in the decoder's first three layers."""
    marked, marks = _marked()
    deep = {"depth": 4, "deepstack_visual_indexes": [0, 1, 2], "num_position_embeddings": 36}
    config = transformers.Qwen3VLConfig(
        vision_config={**MERGING, **deep, "out_hidden_size": 32},
        text_config=text_config(
            dict, head_dim=8, rope_parameters={**MROPE, "mrope_interleaved": True}, **TEXT
        ),
        **marks,
    )
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(**_SIZES, **_PIXELS),
        marked,
        transformers.Qwen3VLVideoProcessor(**_SIZES, **_PIXELS),
        chat_template=_BETWEEN_MARKS,
    )
    save(made(transformers.Qwen3VLForConditionalGeneration, config), processor, directory)


_BETWEEN_MARKS = VIDEO_TEMPLATE.replace("<video>", "<|video_pad|>")
for _mark in ("<image>", "<|video_pad|>"):
    _BETWEEN_MARKS = _BETWEEN_MARKS.replace(_mark, f"<|vision_start|>{_mark}<|vision_end|>")


def _marked() -> tuple[Any, dict[str, int]]:
    """A tokenizer with the marks of images, and the configuration's fields for them."""
    marked = tokenizer()
    marked.add_special_tokens({"additional_special_tokens": _MARKS})
    names = ("video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = zip(names, marked.convert_tokens_to_ids(_MARKS), strict=True)
    return marked, {"image_token_id": IMAGE, **dict(ids)}


def save(model: Any, processor: Any, directory: Path) -> None:
    model.save_pretrained(directory)
    processor.save_pretrained(directory)


SAVED: dict[str, Callable[[Path], None]] = {
    "llava-next": save_llava_next,
    "onevision": save_onevision,
    "qwen2.5-vl": save_qwen2_5_vl,
    "qwen3-vl": save_qwen3_vl,
}
