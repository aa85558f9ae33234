"""What tiny random models and their batches are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

IMAGE, VIDEO, BEGIN, END, VOCABULARY = 120, 121, 122, 123, 128
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
