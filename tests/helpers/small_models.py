"""Models and prompts small enough to run dozens of times, with peaked attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
)

IMAGE = 99


def small_llava(
    attention: str = "sdpa",
    layers: int = 8,
    side: int = 8,
    kv_heads: int = 2,
    tower_layers: int = 3,
    has_cls: bool = True,
):
    """A random LLaVA of `side`² visual tokens an image, image token 99, vocabulary 100.

    Its tower is CLIP's, or SigLIP's where no row is CLS.
    """
    torch.manual_seed(7)
    width = 32
    tower = {
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": tower_layers,
        "num_attention_heads": 4,
        "image_size": 7 * side,
        "patch_size": 7,
    }
    clip = CLIPVisionConfig(**tower, projection_dim=width)
    config = LlavaConfig(
        vision_config=clip if has_cls else SiglipVisionConfig(**tower),
        text_config=LlamaConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            vocab_size=IMAGE + 1,
            max_position_embeddings=1024,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        image_token_index=IMAGE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default" if has_cls else "full",
        attn_implementation=attention,
    )
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 8
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


@dataclass(frozen=True)
class Prompts:
    """Prompts with 1, 1, 2 and 0 images and different lengths, as rows of left-padded batches."""

    tokens: list[list[int]]
    pixels: list[Tensor]

    def batch(self, *rows: int) -> dict[str, Tensor]:
        longest = max(len(self.tokens[row]) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, longest - len(self.tokens[row]) :] = torch.tensor(self.tokens[row])
            mask[i, longest - len(self.tokens[row]) :] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        pixels = torch.cat([self.pixels[row] for row in rows])
        return {**inputs, "pixel_values": pixels} if len(pixels) else inputs


def make_prompts(side: int = 8) -> Prompts:
    generator = torch.Generator().manual_seed(3)
    tokens, pixels = [], []
    for text, images in ((9, 1), (17, 1), (12, 2), (14, 0)):
        words = torch.randint(3, IMAGE, (text,), generator=generator).tolist()
        prompt = [1, *words[:3]]
        for i in range(images):
            prompt += [IMAGE] * side**2 + words[3 + i : 4 + i]
        tokens.append(prompt + words[5:])
        pixels.append(torch.randn(images, 3, 7 * side, 7 * side, generator=generator))
    return Prompts(tokens, pixels)
