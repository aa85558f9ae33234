"""Passes through the vision tower while a method that cuts inside it is attached.

Plans depend on how many images share a sample's budget, so the prompt has to be known before its
images are encoded. `generate` encodes them first since transformers 5.18, so it tells the prompt;
in a plain forward the model's hook does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from torch import Tensor, nn

from methods.clock import Clock
from methods.errors import PruningError
from methods.generation import planned
from methods.groups import seeds_of
from methods.mechanism import broken
from methods.method import Method
from methods.recording import Observer
from methods.sizes import Budget
from methods.tower import TowerPass
from methods.tower_family import TowerAdapter


class InsideTower:
    """The prompt whose images come next, None where it is not known; and the pass that began last.

    Its methods are what the hooks of the tower's parts call.
    """

    def __init__(
        self,
        adapter: TowerAdapter,
        clock: Clock,
        method: Method,
        budget: Budget,
        seeds: Sequence[int] | None,
    ) -> None:
        self.adapter, self.clock = adapter, clock
        self.method, self.budget, self.seeds = method, budget, seeds
        self.prompt: tuple[Tensor, Tensor | None] | None = None
        self.last: TowerPass | None = None

    def telling_the_prompt(self, original: Any) -> Callable[..., Any]:
        """The model's `generate`, which tells its prompt first."""

        @wraps(original)
        def generate(*args: Any, **kwargs: Any) -> Any:
            given = [kwargs.get("input_ids"), kwargs.get("inputs"), *args[:1]]
            ids = next((ids for ids in given if ids is not None), None)
            self.prompt = None if ids is None else (ids, kwargs.get("attention_mask"))
            try:
                return original(*args, **kwargs)
            finally:
                self.prompt = None

        return generate

    def begin(self, tower: nn.Module, args: tuple) -> None:
        """Plan every image. Raises PruningError as planning does, or for an unknown prompt."""
        if self.prompt is None:
            raise PruningError(
                f"{self.method.name} cuts inside the vision tower, so that it has to know the "
                "prompt before its images are encoded: call the model, or its generate, with "
                "input_ids and pixel_values"
            )
        input_ids, mask = self.prompt
        visual = self.adapter.kinds(input_ids) > 0
        if mask is not None and mask.dim() == 2:
            visual = visual & mask.to(visual.device).bool()
        sizes = [self.adapter.sizes(count) for count in visual.sum(1).tolist()]
        plans = [planned(self.method, self.budget, own) for own in sizes]
        seeds = seeds_of(self.seeds, len(sizes))
        self.last = TowerPass(self.adapter, self.clock, self.method.name, sizes, plans, seeds)
        self.prompt = None

    @property
    def _now(self) -> TowerPass:
        if self.last is None:
            raise broken("a part of the vision tower ran without the tower's hook")
        return self.last

    def observers(self) -> dict[nn.Module, Observer]:
        """Those of all attention modules of the tower."""
        layers = self.adapter.tower_layers
        return {self.adapter.attention(layer): self._observer(i) for i, layer in enumerate(layers)}

    def _observer(self, i: int) -> Observer:
        return lambda attended: self._now.observe(i, attended)

    def enter_layer(self, i: int) -> Callable[..., tuple[tuple, dict] | None]:
        return lambda _, args, kwargs: self._now.enter_layer(i, args, kwargs)

    def enter_mlp(self, i: int) -> Callable[..., Tensor]:
        return lambda _, args: self._now.enter_mlp(i, args[0])

    def leave_mlp(self, mlp: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self._now.mlp.leave_mlp(output)

    def leave_layer(self, i: int) -> Callable[..., Tensor]:
        return lambda _, args, output: self._now.leave_layer(i, output)

    def leave_projector(self, projector: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self._now.spread(output)
