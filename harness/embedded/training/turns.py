"""Attention of many turns about one image, each of which sees the image and itself alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

TURNS = "embedded_turns"
"""The name of `turns_attention` among the attention implementations of transformers."""
POINTERS = ((4, 0), (12, 0))
"""Decoder layers and heads that `guides.pointing_loss` makes look at what is asked about."""


def turns_mask(turns: torch.Tensor, sighted: torch.Tensor, start: int, visual: int) -> torch.Tensor:
    """bool [B, 1, L, start + visual + L]: a token sees the start, the image if its turn has one,
    and its own turn so far."""
    same = (turns[:, :, None] == turns[:, None, :]).tril()
    image = sighted.bool()[..., None].expand(-1, -1, visual)
    return torch.cat([same.new_ones(*turns.shape, start), image, same], 2)[:, None]


@dataclass(frozen=True)
class Look:
    """What a head asks and sees: queries [B, L, d], keys [B, shared + L, d], mask, scale."""

    queries: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor
    scaling: float


def turns_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    looks: list[Look] | None = None,
    pointers: tuple[tuple[int, int], ...] = POINTERS,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention [B, heads, shared + L, width] under a mask of `turns_mask`.

    What is shared is causal, which needs no mask and half the work. `looks` takes what
    `guides.pointing_loss` wants of `pointers`, layers and heads.
    """
    attend, shared = functional.scaled_dot_product_attention, key.shape[2] - attention_mask.shape[2]
    first, last = query[:, :, :shared], query[:, :, shared:]
    for layer, head in pointers:
        if looks is not None and layer == module.layer_idx:
            looks.append(Look(last[:, head], key[:, head], attention_mask[:, 0], scaling))
    start = attend(first, key[:, :, :shared], value[:, :, :shared], is_causal=True, scale=scaling)
    rest = attend(last, key, value, attn_mask=attention_mask, scale=scaling)
    return torch.cat([start, rest], 2).transpose(1, 2).contiguous(), None


AttentionInterface.register(TURNS, turns_attention)
