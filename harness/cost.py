"""Theoretical cost of a prefill, from the counted ledger and the model's shape alone.

2 FLOPs per multiply-add; matrix products only (norms, softmax and rotations are below 1 %).
Attention counts the full T x T products, as kernels without causal skipping compute them.
`shape` is a record's: the fields of `methods.interface.ModelShape` by name, all integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Shape = Mapping[str, int]

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def layer_flops(shape: Shape, tokens: int) -> int:
    """One decoder layer that `tokens` tokens enter: q, k, v, o, gated MLP, QK^T and AV."""
    hidden = shape["hidden_size"]
    queries = shape["attention_heads"] * shape["head_dim"]
    keys = shape["key_value_heads"] * shape["head_dim"]
    weights = hidden * (2 * queries + 2 * keys) + 3 * hidden * shape["intermediate_size"]
    return 2 * tokens * weights + 2 * 2 * tokens * tokens * queries


def prefill_flops(shape: Shape, entering: Sequence[int], text: int) -> int:
    """All decoder layers, and the language-model head for one row.

    `entering[l]` visual tokens enter layer l together with the `text` tokens.
    """
    head = 2 * shape["hidden_size"] * shape["vocabulary"]
    return sum(layer_flops(shape, visual + text) for visual in entering) + head


def tower_flops(shape: Shape) -> int:
    """The vision tower for one image: patch embedding and the layers that run."""
    rows, width = shape["tower_rows"], shape["tower_width"]
    weights = 4 * width * width + 2 * width * shape["tower_intermediate"]
    layer = 2 * rows * weights + 2 * 2 * rows * rows * width
    return 2 * rows * shape["patch_values"] * width + shape["tower_layers"] * layer


def projector_flops(shape: Shape, rows: int) -> int:
    """The two-layer projector for `rows` visual tokens."""
    widths = shape["tower_width"] + shape["hidden_size"]
    return 2 * rows * shape["projector_inner"] * widths


def kv_cache_bytes(shape: Shape, cached: Sequence[int], dtype: str) -> int:
    """Keys and values of `cached[l]` rows in each layer l, for one sample."""
    row = shape["key_value_heads"] * shape["head_dim"] * 2 * DTYPE_BYTES[dtype]
    return sum(cached) * row
