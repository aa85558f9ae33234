"""Sees the queries and keys of chosen attention modules, whatever kernel runs them.

Every attention layer of transformers asks one registry for its kernel; while something observes,
the registry hands out the same kernel with a look at q and k before it. Modules that are not
observed go straight through. Nothing is computed here that a stage did not ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from methods.attention import QueriesKeys

Observer = Callable[[QueriesKeys], None]
"""Told of the queries, keys and values [b, H, L, d] of a module that attends."""


@contextmanager
def observing(observers: Mapping[nn.Module, Observer]) -> Iterator[None]:
    """Call each module's observer with its q, k and v whenever it attends; nests."""
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
                observer(QueriesKeys(query, key, float(scaling), value))
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
