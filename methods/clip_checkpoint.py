"""A CLIP checkpoint beside the model, for methods that ask how alike patches and a question are.

Read from a directory in transformers' layout, safetensors only, in float32; no code of it is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.errors import PruningError

SEGMENT = 77
"""Tokens that CLIP's text tower reads at once."""


class Clip:
    """Embeddings of patches and of text in the space that CLIP compares them in."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    def of_text(self, text: str) -> Tensor:
        """float32 [segments, width]: of each 77 tokens of the text.

        A full first segment has no end token and is pooled at its largest id, as transformers does.
        The last one is padded with tokens of id 0: they come after the one that is pooled, which
        sees nothing behind it, so that they need no mask.
        """
        ids = self.tokenizer(text)["input_ids"]
        ids = torch.tensor(ids + [0] * (-len(ids) % SEGMENT), device=self.model.device)
        with torch.no_grad():
            out = self.model.text_model(input_ids=ids.view(-1, SEGMENT))
            return self.model.text_projection(out.pooler_output)

    def of_patches(self, features: Tensor) -> Tensor:
        """float32 [b, n, width] of the vision tower's patch features [b, n, D]."""
        with torch.no_grad():
            normed = self.model.vision_model.post_layernorm(features.float())
            return self.model.visual_projection(normed)

    def likeness(self, features: Tensor, texts: Sequence[str]) -> Tensor:
        """Mean cosine of patches [b, n, D] with the segments of each sample's text: [b, n]."""
        patches = normalize(self.of_patches(features), dim=-1)
        words = (normalize(self.of_text(text), dim=-1) for text in texts)
        pairs = zip(patches, words, strict=True)
        return torch.stack([(own @ text.T).mean(-1) for own, text in pairs])


@lru_cache(maxsize=2)
def clip_of(directory: str, device: torch.device) -> Clip:
    """The checkpoint on a device; on `meta` its sizes alone. Raises PruningError."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    check_clip(directory)
    tokenizer = CLIPTokenizer.from_pretrained(directory)
    if device.type == "meta":
        with device:
            return Clip(CLIPModel(CLIPConfig.from_pretrained(directory)).eval(), tokenizer)
    model = CLIPModel.from_pretrained(directory, dtype=torch.float32, use_safetensors=True)
    return Clip(model.eval().to(device), tokenizer)


def check_clip(directory: str) -> None:
    """Raises PruningError where no checkpoint lies."""
    missing = [
        name
        for name in ("config.json", "model.safetensors", "tokenizer_config.json")
        if not (Path(directory) / name).is_file()
    ]
    if missing:
        raise PruningError(f"{directory} is no CLIP checkpoint: it has no {', no '.join(missing)}")


@lru_cache
def clip_digest(directory: str) -> str:
    """Hex SHA-256 of the checkpoint's weights, tokenizer and configuration. Raises PruningError."""
    check_clip(directory)
    total = hashlib.sha256()
    for file in sorted(Path(directory).iterdir()):
        if file.suffix in (".json", ".safetensors", ".txt"):
            with file.open("rb") as opened:
                total.update(file.name.encode())
                total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()
