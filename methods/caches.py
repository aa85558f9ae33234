"""The KV cache of a forward, by whichever name transformers hands it on, and a pruned one."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask

from methods.errors import PruningError

CACHE_ARGUMENT = (
    "cache" if "cache" in signature(create_causal_mask).parameters else "past_key_values"
)
"""What inner modules call it: `cache` since transformers 5.24, `past_key_values` before."""


def cache_of(kwargs: Mapping[str, Any]) -> Cache | None:
    """The cache among a module's keyword arguments; None where it runs without one."""
    return kwargs.get(CACHE_ARGUMENT)


def rows_of(cache: Any, layer: int) -> int:
    """Rows that a layer's keys [batch, heads, rows, d] fill, padding counted."""
    return cache.layers[layer].keys.shape[-2]


def check_kind(cache: Cache) -> None:
    """Raises PruningError for a cache whose layers cannot differ in length."""
    if type(cache) is not DynamicCache:
        raise PruningError(f"a {type(cache).__name__} cannot be pruned; use the dynamic cache")


class PrunedCache(DynamicCache):
    """A cache whose layers hold different parts of a prompt.

    Without the bookkeeping of the context that pruned it, masks and positions of new tokens would
    be silently wrong, so that it takes in rows in a forward of that context only.
    """

    expected: bool

    def update(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """As DynamicCache's. Raises PruningError outside of the context that pruned its prompt."""
        if not self.expected:
            raise refused()
        return super().update(*args, **kwargs)


def mark_pruned(cache: Cache) -> None:
    """Make a dynamic cache know that its prompt was pruned."""
    cache.__class__ = PrunedCache
    expect(cache, False)


def expect(cache: Cache | None, coming: bool) -> None:
    """Say whether rows that a pruned cache gets now come from the context that pruned it."""
    if isinstance(cache, PrunedCache):
        cache.expected = coming


def refused() -> PruningError:
    """What is said to whoever goes on with a pruned cache elsewhere."""
    return PruningError(
        "this KV cache holds a pruned prompt, which only the `attach` context that pruned it can "
        "go on from; begin with the whole prompt and a new cache"
    )
