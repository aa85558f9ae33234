"""Proof that hooks and caches did what pruning is made of.

transformers may rename an argument or call a layer past its hooks in any release. Then nothing
fails by itself: new tokens are taken for prompts, or nothing is cut. So every prefill, and the
first new token after it, is held to what must be true of it; all of it is integers on the host.
"""

from __future__ import annotations

from collections.abc import Iterable

import transformers
from transformers.cache_utils import Cache

from methods.caches import rows_of
from methods.errors import MechanismError
from methods.versions import tested_transformers


def broken(what: str) -> MechanismError:
    """The error that says `what` did not hold, and which releases are tested."""
    return MechanismError(
        f"{what}; installed is transformers {transformers.__version__}, "
        f"tested are {tested_transformers()}"
    )


class LayerCount:
    """Sees the decoder layers of one forward pass go by; `done` of them came back."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.restart()

    def restart(self) -> None:
        self.seen = self.done = 0

    def pass_by(self, layer: int) -> None:
        """Raises MechanismError where `layer` is not the next one."""
        if layer != self.seen:
            raise broken(f"decoder layer {layer} was seen where layer {self.seen} was due")
        self.seen += 1

    def check(self) -> None:
        """Raises MechanismError unless all layers have gone by."""
        if self.seen != self.layers:
            raise broken(f"{self.seen} of {self.layers} decoder layers were seen in one forward")

    def fault(self) -> MechanismError | None:
        """Of a forward that raised: whether it did so in a layer that was not seen."""
        inside = self.seen > self.done
        if inside or self.seen in (0, self.layers):
            return None
        return broken(f"decoder layer {self.seen} ran without being seen, and failed")


def check_cache(cache: Cache, wanted: Iterable[int]) -> None:
    """Raises MechanismError unless each layer's cache holds as many rows as `wanted`, padding
    counted.
    """
    for layer, rows in enumerate(wanted):
        found = rows_of(cache, layer)
        if found != rows:
            raise broken(f"layer {layer} caches {found} rows, {rows} tokens entered it")
