"""Plain torch in place of the FlashAttention kernels, under transformers' own flash code path.

Masks, unpadding and the detection of packed sequences are transformers'; only the two kernels are
replaced, so that the form in which that path wants its masks is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers.modeling_flash_attention_utils as flash
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float | None) -> Tensor:
    """[L, heads, d] each; the last query sees every key, as FlashAttention aligns them."""
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * (scale or q.shape[-1] ** -0.5)
    if causal:
        keep = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q))
        scores = scores.masked_fill(~keep, -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False):
    return torch.stack([attend(*row, causal, softmax_scale) for row in zip(q, k, v, strict=True)])


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q=None, max_seqlen_k=None,
    dropout_p=0.0, softmax_scale=None, causal=False,
):  # fmt: skip
    parts = []
    for i in range(len(cu_seqlens_q) - 1):
        of_q = slice(cu_seqlens_q[i], cu_seqlens_q[i + 1])
        of_k = slice(cu_seqlens_k[i], cu_seqlens_k[i + 1])
        parts.append(attend(q[of_q], k[of_k], v[of_k], causal, softmax_scale))
    return torch.cat(parts)


@contextmanager
def flash_path(model) -> Iterator[None]:
    """Run `model` through transformers' flash path with the stand-ins."""
    configs = [model.config, model.config.text_config, model.config.vision_config]
    before = [config._attn_implementation for config in configs]
    lazy_imports = flash._lazy_imports
    flash._lazy_imports = lambda *_, **__: (
        flash_attn_func, flash_attn_varlen_func, None, flash._pad_input, flash._unpad_input
    )  # fmt: skip
    flash._flash_fn = flash._loaded_implementation = None
    for config in configs:
        config._attn_implementation_internal = "flash_attention_2"
    try:
        yield
    finally:
        flash._lazy_imports = lazy_imports
        flash._flash_fn = flash._loaded_implementation = None
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name
