"""The KV cache of a forward, by whichever name this release of transformers hands it on."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

CACHE_ARGUMENT = (
    "cache" if "cache" in signature(create_causal_mask).parameters else "past_key_values"
)
"""What inner modules call it: `cache` since transformers 5.24, `past_key_values` before."""


def cache_of(kwargs: Mapping[str, Any]) -> Cache | None:
    """The cache among a module's keyword arguments; None where it runs without one."""
    return kwargs.get(CACHE_ARGUMENT)
