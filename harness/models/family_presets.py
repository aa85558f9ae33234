"""Presets of other families than LLaVA-1.5: fields of their published configurations.

What no published file was at hand for is named in `unverified`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FamilyPreset:
    """A class of configurations of transformers, and the fields that differ from its defaults."""

    shape: str
    configuration: str
    fields: Mapping[str, Any] = field(repr=False)
    unverified: str = ""
    images: int = 1

    @property
    def what(self) -> str:
        doubt = f" (not verified: {self.unverified})" if self.unverified else ""
        return self.shape + doubt

    def made(self) -> Any:
        """transformers' configuration."""
        import transformers

        return getattr(transformers, self.configuration)(**self.fields)


def _text(kind: str, width: int, layers: int, heads: tuple[int, int], mlp: int, words: int) -> dict:
    """A decoder's fields; `heads`: of queries, and of keys and values."""
    return {
        **{"model_type": kind, "hidden_size": width, "num_hidden_layers": layers},
        **{"num_attention_heads": heads[0], "num_key_value_heads": heads[1]},
        **{"intermediate_size": mlp, "vocab_size": words, "head_dim": width // heads[0]},
        **{"pad_token_id": 0, "max_position_embeddings": 32768},
    }


def _tower(kind: str, width: int, layers: int, heads: int, mlp: int, side: int, patch: int) -> dict:
    return {
        **{"model_type": kind, "hidden_size": width, "num_hidden_layers": layers},
        **{"num_attention_heads": heads, "intermediate_size": mlp},
        **{"image_size": side, "patch_size": patch},
    }


def _grids(side: int, most: int) -> list[list[int]]:
    """All grids of at most so many crops along a side and `most` in all."""
    counts = range(1, most + 1)
    return [[side * h, side * w] for h in counts for w in counts if 2 <= h * w <= most]


def _next(text: dict, tower: dict) -> dict[str, Any]:
    return {
        **{"text_config": text, "vision_config": {**tower, "projection_dim": 768}},
        **{"image_token_index": 32000, "image_grid_pinpoints": _grids(336, 4)},
        **{"vision_feature_layer": -2, "vision_feature_select_strategy": "default"},
    }


def _next_video(text: dict, tower: dict) -> dict[str, Any]:
    rope = {"rope_type": "linear", "factor": 2.5, "rope_theta": 1e4}
    marks = {"image_token_index": 32001, "video_token_index": 32000}
    return {**_next({**text, "rope_parameters": rope}, tower), **marks}


def _onevision(text: dict, tower: dict) -> dict[str, Any]:
    return {
        **{"text_config": text, "vision_config": {**tower, "vision_use_head": False}},
        "image_grid_pinpoints": _grids(384, 36),
    }


def _internvl(text: dict, tower: dict) -> dict[str, Any]:
    sides = {key: [tower[key]] * 2 for key in ("image_size", "patch_size")}
    return {
        **{"text_config": text, "vision_config": {**tower, **sides}},
        "tie_word_embeddings": False,
    }


def _qwen2_5(text: dict, width: int, heads: int, mlp: int) -> dict[str, Any]:
    vision = {
        **{"depth": 32, "hidden_size": width, "num_heads": heads, "intermediate_size": mlp},
        **{"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]},
        **{"out_hidden_size": text["hidden_size"], "tokens_per_second": 2},
    }
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    return {"text_config": {**text, "rope_parameters": rope}, "vision_config": vision}


def _qwen3(text: dict, width: int, heads: int, mlp: int) -> dict[str, Any]:
    vision = {
        **{"depth": 27, "hidden_size": width, "num_heads": heads, "intermediate_size": mlp},
        **{"patch_size": 16, "deepstack_visual_indexes": [8, 16, 24]},
        "out_hidden_size": text["hidden_size"],
    }
    rope = {
        **{"rope_type": "default", "mrope_section": [24, 20, 20], "rope_theta": 5e6},
        "mrope_interleaved": True,
    }
    return {"text_config": {**text, "rope_parameters": rope}, "vision_config": vision}


_EIGHTH = "at about an eighth of the width, for a CPU"

FAMILIES = {
    "random:llava-next-7b-anyres": FamilyPreset(
        "LLaVA-NeXT-7B (vicuna) on an image of 2 × 2 crops, 2,928 visual tokens",
        "LlavaNextConfig",
        _next(
            _text("llama", 4096, 32, (32, 32), 11008, 32064),
            _tower("clip_vision_model", 1024, 24, 16, 4096, 336, 14),
        ),
    ),
    "random:llava-next-7b-anyres-eighth": FamilyPreset(
        f"LLaVA-NeXT-7B {_EIGHTH}",
        "LlavaNextConfig",
        _next(
            _text("llama", 512, 32, (4, 4), 1376, 32064),
            _tower("clip_vision_model", 128, 24, 2, 512, 336, 14),
        ),
    ),
    "random:llava-next-video-7b": FamilyPreset(
        "LLaVA-NeXT-Video-7B on an image of 2 × 2 crops, or on frames of 144 visual tokens",
        "LlavaNextVideoConfig",
        _next_video(
            _text("llama", 4096, 32, (32, 32), 11008, 32064),
            _tower("clip_vision_model", 1024, 24, 16, 4096, 336, 14),
        ),
    ),
    "random:llava-next-video-7b-eighth": FamilyPreset(
        f"LLaVA-NeXT-Video-7B {_EIGHTH}",
        "LlavaNextVideoConfig",
        _next_video(
            _text("llama", 512, 32, (4, 4), 1376, 32064),
            _tower("clip_vision_model", 128, 24, 2, 512, 336, 14),
        ),
    ),
    "random:onevision-7b": FamilyPreset(
        "LLaVA-OneVision-7B on an image of 2 × 2 crops, 3,699 visual tokens, or on frames of 196",
        "LlavaOnevisionConfig",
        _onevision(
            _text("qwen2", 3584, 28, (28, 4), 18944, 152064),
            _tower("siglip_vision_model", 1152, 26, 16, 4304, 384, 14),
        ),
        unverified="size of the vocabulary",
    ),
    "random:onevision-7b-eighth": FamilyPreset(
        f"LLaVA-OneVision-7B {_EIGHTH}",
        "LlavaOnevisionConfig",
        _onevision(
            _text("qwen2", 512, 28, (4, 1), 2368, 152064),
            _tower("siglip_vision_model", 144, 26, 2, 538, 384, 14),
        ),
    ),
    "random:internvl3-8b": FamilyPreset(
        "InternVL3-8B on 5 tiles, 1,280 visual tokens",
        "InternVLConfig",
        _internvl(
            _text("qwen2", 3584, 28, (28, 4), 18944, 151674),
            _tower("internvl_vision", 1024, 24, 16, 4096, 448, 14),
        ),
        unverified="all sizes, which are those of its parts",
    ),
    "random:internvl3-8b-eighth": FamilyPreset(
        f"InternVL3-8B {_EIGHTH}",
        "InternVLConfig",
        _internvl(
            _text("qwen2", 512, 28, (4, 1), 2368, 151674),
            _tower("internvl_vision", 128, 24, 2, 512, 448, 14),
        ),
    ),
    "random:qwen2.5-vl-7b": FamilyPreset(
        "Qwen2.5-VL-7B on 1008 × 1008 pixels, 1,296 visual tokens",
        "Qwen2_5_VLConfig",
        _qwen2_5(_text("qwen2_5_vl_text", 3584, 28, (28, 4), 18944, 152064), 1280, 16, 3420),
    ),
    "random:qwen2.5-vl-7b-eighth": FamilyPreset(
        f"Qwen2.5-VL-7B {_EIGHTH}",
        "Qwen2_5_VLConfig",
        _qwen2_5(_text("qwen2_5_vl_text", 512, 28, (4, 1), 2368, 152064), 160, 2, 428),
    ),
    "random:qwen3-vl-8b": FamilyPreset(
        "Qwen3-VL-8B on 1152 × 1152 pixels, 1,296 visual tokens",
        "Qwen3VLConfig",
        _qwen3(_text("qwen3_vl_text", 4096, 36, (32, 8), 12288, 151936), 1152, 16, 4304),
    ),
    "random:qwen3-vl-8b-eighth": FamilyPreset(
        f"Qwen3-VL-8B {_EIGHTH}",
        "Qwen3VLConfig",
        _qwen3(_text("qwen3_vl_text", 512, 36, (4, 1), 1536, 151936), 144, 2, 538),
    ),
}
