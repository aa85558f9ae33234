"""Theoretical cost of a prefill, from the counted ledger and the model's shape alone.

2 FLOPs per multiply-add; matrix products only (norms, softmax and rotations are below 1 %).
Attention counts the full T x T products, as kernels without causal skipping compute them.
`shape` is a record's: the fields of `methods.sizes.ModelShape` by name, all integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Shape = Mapping[str, int]

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def layer_flops(shape: Shape, tokens: int, mlp: int | None = None) -> int:
    """One decoder layer that `tokens` tokens enter: q, k, v, o, gated MLP, QK^T and AV. `mlp`:
    those that its MLP works on, where others leave before it.
    """
    queries = shape["attention_heads"] * shape["head_dim"]
    attention = 2 * tokens * attention_weights(shape) + 2 * 2 * tokens * tokens * queries
    return attention + 2 * (tokens if mlp is None else mlp) * mlp_weights(shape)


def attention_weights(shape: Shape) -> int:
    """Weights of one decoder layer's attention."""
    queries = shape["attention_heads"] * shape["head_dim"]
    keys = shape["key_value_heads"] * shape["head_dim"]
    return shape["hidden_size"] * (2 * queries + 2 * keys)


def mlp_weights(shape: Shape) -> int:
    """Weights of one decoder layer's gated MLP."""
    return 3 * shape["hidden_size"] * shape["intermediate_size"]


def layer_weights(shape: Shape) -> int:
    """Weights of one decoder layer's matrices."""
    return attention_weights(shape) + mlp_weights(shape)


def decoder_weights(shape: Shape) -> int:
    """Weights that a forward of the decoder reads: all layers, and the language-model head."""
    return shape["layers"] * layer_weights(shape) + shape["hidden_size"] * shape["vocabulary"]


def tower_weights(shape: Shape) -> int:
    """Weights that a forward of the vision tower reads."""
    if found := shape.get("tower_matrices"):
        return found
    width = shape["tower_width"]
    layer = 4 * width * width + 2 * width * shape["tower_intermediate"]
    return shape["patch_values"] * width + shape["tower_layers"] * layer


def projector_weights(shape: Shape) -> int:
    """Weights of the projector: of two layers, unless the shape tells."""
    if found := shape.get("projector_matrices"):
        return found
    return shape["projector_inner"] * (shape["tower_width"] + shape["hidden_size"])


def decode_flops(shape: Shape, rows: Sequence[float]) -> float:
    """One new token that attends to `rows[l]` keys in layer l, itself included."""
    queries = shape["attention_heads"] * shape["head_dim"]
    return 2 * decoder_weights(shape) + 2 * 2 * queries * sum(rows)


def prefill_flops(
    shape: Shape, entering: Sequence[int], text: int, mlp: Sequence[int] | None = None
) -> int:
    """All decoder layers, and the language-model head for one row.

    `entering[l]` visual tokens enter layer l together with the `text` tokens, and `mlp[l]` its MLP,
    where that is told.
    """
    head = 2 * shape["hidden_size"] * shape["vocabulary"]
    layers = zip(entering, mlp or entering, strict=True)
    return sum(layer_flops(shape, own + text, left + text) for own, left in layers) + head


def causally_skipped_flops(shape: Shape, entering: Sequence[int], text: int) -> int:
    """Of `prefill_flops`, what kernels that skip later keys do not compute: half of attention."""
    queries = shape["attention_heads"] * shape["head_dim"]
    return sum(2 * (visual + text) ** 2 * queries for visual in entering)


def tower_flops(shape: Shape, rows: Sequence[Sequence[int]] = ()) -> int:
    """The vision tower for one image: patch embedding and the layers that run.

    `rows[l]`: how many enter the attention, and how many the MLP, of layer l; all where not given.
    """
    all_rows, width = shape["tower_rows"], shape["tower_width"]
    mlp = 2 * width * shape["tower_intermediate"]
    layers = rows or [(all_rows, all_rows)] * shape["tower_layers"]
    return 2 * all_rows * shape["patch_values"] * width + sum(
        2 * seen * 4 * width * width + 2 * 2 * seen * seen * width + 2 * left * mlp
        for seen, left in layers
    )


def projector_flops(shape: Shape, rows: float) -> float:
    """The projector for `rows` visual tokens."""
    return 2 * rows * projector_weights(shape)


def kv_cache_bytes(shape: Shape, cached: Sequence[float], dtype: str) -> float:
    """Keys and values of `cached[l]` rows in each layer l, for one sample."""
    row = shape["key_value_heads"] * shape["head_dim"] * 2 * DTYPE_BYTES[dtype]
    return sum(cached) * row
