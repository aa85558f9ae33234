"""Sees the queries and keys of chosen attention modules, whatever kernel runs them.

Every attention layer of transformers asks one registry for its kernel; while something observes,
the registry hands out the same kernel with a look at q and k before it. Modules that are not
observed go straight through. Nothing is computed here that a stage did not ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


@dataclass(frozen=True)
class QueriesKeys:
    """q [b, H, L, d] and k [b, H_kv, L, d] after RoPE, as the kernel got them."""

    queries: Tensor
    keys: Tensor
    scaling: float

    def to(self, device: torch.device) -> QueriesKeys:
        return QueriesKeys(self.queries.to(device), self.keys.to(device), self.scaling)

    def attention(self, rows: Tensor, allowed: Tensor | None) -> Tensor:
        """Softmax weights of query rows: float32 [b, H, r, L].

        `rows` int64 [b, r]; `allowed` bool [b, r, L], None where every row sees every key.
        """
        heads, d = self.queries.shape[1], self.queries.shape[3]
        index = rows[:, None, :, None].expand(-1, heads, -1, d)
        q = self.queries.gather(2, index).float()
        k = self.keys.float().repeat_interleave(heads // self.keys.shape[1], 1)
        scores = q @ k.transpose(-1, -2) * self.scaling
        if allowed is not None:
            scores = scores.masked_fill(~allowed[:, None], torch.finfo(scores.dtype).min)
        return scores.softmax(-1)


Observer = Callable[[QueriesKeys], None]


@contextmanager
def observing(observers: Mapping[nn.Module, Observer]) -> Iterator[None]:
    """Call each module's observer with its q and k whenever it attends; nests."""
    registry: Any = ALL_ATTENTION_FUNCTIONS
    outer = registry.__dict__.get("get_interface")
    original = registry.get_interface

    def get_interface(implementation: str, default: Callable) -> Callable:
        kernel = original(implementation, default)

        def observed(
            module: nn.Module,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            attention_mask: Tensor | None = None,
            **kwargs: Any,
        ) -> Any:
            observer = observers.get(module)
            if observer is not None:
                scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
                observer(QueriesKeys(query, key, float(scaling)))
            return kernel(module, query, key, value, attention_mask, **kwargs)

        return observed

    if not observers:
        yield
        return
    registry.get_interface = get_interface
    try:
        yield
    finally:
        if outer is None:
            del registry.get_interface
        else:
            registry.get_interface = outer
