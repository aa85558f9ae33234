"""Models of published shapes with random weights, made on the device: speed needs no checkpoint.

Latency and memory do not depend on what the weights say. A preset has no tokenizer, so it can be
timed but not asked. The shapes are those of the published configurations: LLaVA-1.5 is a CLIP
ViT-L/14 at 336 px before a Llama decoder; other families are in `family_presets`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from harness.errors import BadInput, unknown
from harness.models.family_presets import FAMILIES, FamilyPreset
from harness.models.placement import free_bytes

PREFIX = "random:"
SEED = 20
GIB = 2**30


@dataclass(frozen=True)
class Tower:
    """A CLIP vision tower with CLS; `mlp` is the width of its feed-forward layers."""

    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp: int = 4096
    image_size: int = 336
    patch_size: int = 14


@dataclass(frozen=True)
class Preset:
    """Decoder widths and depth, the tower, and how many images a prompt has unless told."""

    what: str
    width: int
    mlp: int
    heads: int
    layers: int = 32
    vocabulary: int = 32064
    tower: Tower = Tower()
    images: int = 1
    spread: float = 0.02
    """Standard deviation of the decoder's random weights."""


PRESETS: dict[str, Preset | FamilyPreset] = {
    "random:llava-1.5-7b": Preset("LLaVA-1.5-7B's shape", 4096, 11008, 32),
    "random:llava-1.5-13b": Preset("LLaVA-1.5-13B's shape", 5120, 13824, 40, layers=40),
    # LLaVA-NeXT's work in the class of LLaVA-1.5: its overview and four crops go through the tower
    # one by one, as here five images do; newline tokens are left out
    "random:llava-next-7b": Preset(
        "LLaVA-NeXT-7B's work, 2,880 visual tokens, as LLaVA-1.5 with five images a prompt",
        4096,
        11008,
        32,
        images=5,
    ),
    "random:llava-1.5-7b-eighth": Preset(
        "LLaVA-1.5-7B's 32 layers at an eighth of the width, for a CPU",
        512,
        1376,
        4,
        tower=Tower(width=128, heads=2, mlp=512),
    ),
    # wide random weights, so that attention depends on the image
    "random:tiny": Preset(
        "576 visual tokens and 32 layers of width 32, for tests",
        32,
        48,
        2,
        vocabulary=256,
        tower=Tower(width=32, layers=3, heads=2, mlp=128, image_size=168, patch_size=7),
        spread=0.2,
    ),
    **FAMILIES,
}


def is_preset(name: str) -> bool:
    return name.startswith(PREFIX)


def preset(name: str) -> Preset | FamilyPreset:
    """Raises BadInput for a name that is none, with the nearest."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def parameters(name: str) -> int:
    """Weights of a preset's matrices, embeddings included."""
    own = preset(name)
    if isinstance(own, FamilyPreset):
        return _counted_parameters(own)
    tower, width = own.tower, own.width
    layer = 4 * width * width + 3 * width * own.mlp
    tower_layer = 4 * tower.width * tower.width + 2 * tower.width * tower.mlp
    projector = tower.width * width + width * width
    decoder = own.layers * layer + 2 * own.vocabulary * width
    return decoder + projector + tower.layers * tower_layer


def _counted_parameters(own: FamilyPreset) -> int:
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(own.made())
    return sum(weights.numel() for weights in model.parameters())


def digest(name: str) -> str:
    """Hex SHA-256 of the shape and the seed of the weights."""
    text = json.dumps([asdict(preset(name)), SEED], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def configuration(name: str) -> Any:
    """transformers' configuration of a preset."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    wanted = preset(name)
    if isinstance(wanted, FamilyPreset):
        return wanted.made()
    tower = wanted.tower
    vision = CLIPVisionConfig(
        hidden_size=tower.width,
        intermediate_size=tower.mlp,
        num_hidden_layers=tower.layers,
        num_attention_heads=tower.heads,
        image_size=tower.image_size,
        patch_size=tower.patch_size,
        projection_dim=tower.width,
    )
    text = LlamaConfig(
        hidden_size=wanted.width,
        intermediate_size=wanted.mlp,
        num_hidden_layers=wanted.layers,
        num_attention_heads=wanted.heads,
        num_key_value_heads=wanted.heads,
        vocab_size=wanted.vocabulary,
        max_position_embeddings=4096,
        initializer_range=wanted.spread,
        pad_token_id=0,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=wanted.vocabulary - 1,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def build(name: str, device: str, dtype: Any, attention: str) -> Any:
    """The model, drawn on `device` in `dtype`; the global random states stay as they were.

    Raises BadInput where the device has no room for it.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    _check_room(name, device, dtype.itemsize)
    target = torch.device(device)
    devices = [target.index or 0] if target.type == "cuda" else []
    with torch.random.fork_rng(devices), target:
        torch.manual_seed(SEED)
        model = AutoModelForImageTextToText.from_config(
            configuration(name), dtype=dtype, attn_implementation=attention
        )
    model.generation_config.eos_token_id = None
    return model


def _check_room(name: str, device: str, size: int) -> None:
    needed, free = parameters(name) * size, free_bytes(device)
    if needed > free:
        raise BadInput(
            f"{name} takes {needed / GIB:.1f} GiB and {free / GIB:.1f} GiB are free on {device}; "
            f"allowed: a device with more, or a smaller one of {', '.join(PRESETS)}"
        )
