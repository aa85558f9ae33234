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

_TEXT = {
    **{"vocab_size": len(WORDS) + 8, "pad_token_id": PAD, "bos_token_id": BEGIN},
    "eos_token_id": END,
}


def save_llava_next(directory: Path) -> None:
    """Crops of 28 pixels in patches of 7: 16 tokens a crop."""
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**TOWER, projection_dim=32),
        text_config=text_config(transformers.LlamaConfig, **_TEXT),
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
    _save(made(transformers.LlavaNextForConditionalGeneration, config), processor, directory)


def save_qwen2_5_vl(directory: Path) -> None:
    """Patches of 4 pixels, four of which are a token; the marks of images are further tokens."""
    marked = tokenizer()
    marks = ["<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    marked.add_special_tokens({"additional_special_tokens": marks})
    video, start, end = marked.convert_tokens_to_ids(marks)
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            **MERGING,
            **{"window_size": 16, "fullatt_block_indexes": [1], "out_hidden_size": 32},
        },
        text_config=text_config(dict, rope_parameters=MROPE, **_TEXT),
        **{"image_token_id": IMAGE, "video_token_id": video},
        **{"vision_start_token_id": start, "vision_end_token_id": end},
    )
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    pixels = {"size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes, **pixels),
        marked,
        transformers.Qwen2VLVideoProcessor(**sizes, **pixels),
        chat_template=CHAT_TEMPLATE.replace("<image>", "<|vision_start|><image><|vision_end|>"),
    )
    _save(made(transformers.Qwen2_5_VLForConditionalGeneration, config), processor, directory)


def _save(model: Any, processor: Any, directory: Path) -> None:
    model.save_pretrained(directory)
    processor.save_pretrained(directory)


SAVED: dict[str, Callable[[Path], None]] = {
    "llava-next": save_llava_next,
    "qwen2.5-vl": save_qwen2_5_vl,
}
