"""Checkpoint directories of families that take videos: tiny random models with their processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from family_checkpoints import SAVED, TEXT, VIDEO_TEMPLATE, save
from tiny_families import PINPOINTS, TOWER, made, text_config

from harness.embedded.architecture import tokenizer
from harness.embedded.questions import IMAGE, WORDS

_CROP = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
_DEFAULT = {"vision_feature_select_strategy": "default"}
_LLAVA = {
    "vision_config": transformers.CLIPVisionConfig(**TOWER, projection_dim=32),
    "text_config": text_config(transformers.LlamaConfig, **TEXT),
    **{"image_token_index": IMAGE, "video_token_index": len(WORDS)},
    **{"vision_feature_layer": -2, **_DEFAULT},
}
_PROMPT = {
    **{"patch_size": 7, "num_additional_image_tokens": 1, **_DEFAULT},
    "chat_template": VIDEO_TEMPLATE,
}


def marked(*marks: str) -> Any:
    """A tokenizer with further marks, the first of which is the first token after the words."""
    with_marks = tokenizer()
    with_marks.add_special_tokens({"additional_special_tokens": list(marks)})
    return with_marks


def save_llava_next_video(directory: Path) -> None:
    """Frames of 28 pixels in patches of 7, pooled to 4 tokens a frame."""
    config = transformers.LlavaNextVideoConfig(
        **_LLAVA,
        image_grid_pinpoints=PINPOINTS,
    )
    processor = transformers.LlavaNextVideoProcessor(
        transformers.LlavaNextVideoVideoProcessor(**_CROP),
        transformers.LlavaNextImageProcessor(**_CROP, image_grid_pinpoints=PINPOINTS),
        marked("<video>"),
        **_PROMPT,
    )
    save(made(transformers.LlavaNextVideoForConditionalGeneration, config), processor, directory)


def save_video_llava(directory: Path) -> None:
    """Frames of 28 pixels in patches of 7: 17 tokens a frame."""
    processor = transformers.VideoLlavaProcessor(
        transformers.VideoLlavaImageProcessor(**_CROP),
        transformers.VideoLlavaVideoProcessor(**_CROP),
        marked("<video>"),
        **_PROMPT,
    )
    config = transformers.VideoLlavaConfig(**_LLAVA)
    save(made(transformers.VideoLlavaForConditionalGeneration, config), processor, directory)


_NAMED = {
    **{"start_image_token": "<img>", "end_image_token": "</img>"},
    **{"context_image_token": "<image>", "video_token": "<video>"},
}


def save_internvl(directory: Path) -> None:
    """Tiles, or frames, of 28 pixels: 4 tokens each."""
    with_marks = marked("<video>", "<img>", "</img>")
    for name, mark in _NAMED.items():
        setattr(with_marks, name, mark)
        setattr(with_marks, f"{name}_id", with_marks.convert_tokens_to_ids(mark))
    config = transformers.InternVLConfig(
        vision_config={
            **{**TOWER, "image_size": [28, 28], "patch_size": [7, 7]},
            "use_absolute_position_embeddings": True,
        },
        text_config=text_config(transformers.Qwen2Config, **TEXT).to_dict(),
        **{"image_token_id": IMAGE, "image_seq_length": 4, "downsample_ratio": 0.5},
        **{"vision_feature_layer": -1, **_DEFAULT},
    )
    side = {"size": {"height": 28, "width": 28}}
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(**side, crop_to_patches=True, max_patches=4),
        with_marks,
        transformers.InternVLVideoProcessor(**side),
        image_seq_length=4,
        chat_template=VIDEO_TEMPLATE,
    )
    save(made(transformers.InternVLForConditionalGeneration, config), processor, directory)
    # the tokenizer keeps its own names of marks only where its file has them
    file = directory / "tokenizer_config.json"
    described = json.loads(file.read_text())
    file.write_text(json.dumps({**described, "extra_special_tokens": _NAMED}))


WITH_VIDEOS = {
    **{name: SAVED[name] for name in ("onevision", "qwen2.5-vl", "qwen3-vl")},
    "llava-next-video": save_llava_next_video,
    "video-llava": save_video_llava,
    "internvl": save_internvl,
}
