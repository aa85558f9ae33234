"""Forwards of the language model: each begins a generation, or goes on with its KV cache's.

The state of a generation lives as long as its KV cache, so that several may interleave.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers.cache_utils import Cache

from methods.attention import QueriesKeys
from methods.caches import PrunedCache, cache_of, check_kind, expect, refused
from methods.clock import Clock
from methods.errors import MechanismError, PruningError
from methods.family import Adapter
from methods.generation import Generation
from methods.mechanism import broken
from methods.method import Method
from methods.recording import Observer
from methods.sizes import Budget
from methods.trace import Trace
from methods.vision import Vision

_FILLED_ELSEWHERE = "the KV cache of this step was not filled by a prompt inside this context"
_PRUNED_ANEW = (
    "use_cache=False: the prompt is pruned anew for every new token, and a method that looks at "
    "the last token may choose differently each time"
)


class Forwards:
    """`trace` is of all prefills; `lost` what the mechanism lost in a forward that raised.

    Its methods are what the hooks of the model, the language model and its layers call.
    """

    def __init__(
        self,
        adapter: Adapter,
        clock: Clock,
        method: Method,
        budget: Budget,
        seeds: Sequence[int] | None,
        questions: Sequence[str] | None,
        vision: Vision,
    ) -> None:
        self.adapter, self.clock, self.vision = adapter, clock, vision
        self.method, self.budget, self.seeds = method, budget, seeds
        self.questions = questions
        self.trace = Trace()
        self.input_ids: Tensor | None = None
        self.phase = "prefill"
        self.entered = self.placed = False
        self.lost: MechanismError | None = None
        self.use_cache = True
        self.uncached: int | None = None
        self.current: Generation | None = None
        self.cache: Cache | None = None
        self.generations: WeakKeyDictionary[Cache, Generation] = WeakKeyDictionary()

    def begin(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        self.entered = False
        if kwargs.get("labels") is not None:
            raise PruningError("labels cannot be given: the logits of a pruned prompt are fewer")

    def see_prompt(self, body: nn.Module, args: tuple, kwargs: dict) -> None:
        ids = kwargs.get("input_ids")
        self.input_ids = args[0] if ids is None and args else ids
        self.placed = kwargs.get("position_ids") is not None
        if self.vision.inside is not None and self.input_ids is not None:
            self.vision.inside.prompt = self.input_ids, kwargs.get("attention_mask")

    def enter(self, text_model: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        self.entered = True
        cache = cache_of(kwargs)
        if cache is None or cache.get_seq_length() == 0:
            self.phase = "prefill"
            return args, self._enter_prefill(cache, kwargs)
        self.phase = "decode"
        self.clock.start(self.phase)
        self.current = self.generations.get(cache)
        if self.current is None:
            raise refused() if isinstance(cache, PrunedCache) else broken(_FILLED_ELSEWHERE)
        kwargs = self.current.enter_step(kwargs, self.placed)
        self.cache = cache
        expect(cache, True)
        return args, kwargs

    def _enter_prefill(self, cache: Cache | None, kwargs: dict) -> dict:
        if cache is not None:
            check_kind(cache)
        asked = kwargs.get("use_cache")
        self.use_cache = self.adapter.text_config.use_cache if asked is None else asked
        if self.input_ids is None:
            raise PruningError("pruning needs input_ids, to know which tokens are visual")
        self.current = None
        generation = Generation(self.adapter, self.clock, self.method, self.vision.calls)
        # plans wait for the device once: before the phase begins, so that nothing does within it
        kwargs, added = self.adapter.added(kwargs)
        prefill = generation.plan(
            self.budget, self.seeds, self.questions, self.input_ids, kwargs, added
        )
        self.trace.prefills.append(prefill)
        self.clock.start(self.phase)
        self.current = generation
        # not cleared: without a cache every step is a prefill, and the tower runs only once
        inside = None if self.vision.inside is None else self.vision.inside.last
        return generation.enter_prefill(self.vision.recording(prefill), kwargs, inside)

    def before_layer(self, i: int) -> Callable[..., tuple[tuple, dict] | None]:
        def before_layer(layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            generation = self.current
            if generation is None:
                return None
            if i == 0 and generation.prefilling:
                self._keep(generation, cache_of(kwargs))
            return generation.before_layer(i, args, kwargs)

        return before_layer

    def enter_mlp(self, i: int) -> Callable[..., Tensor | None]:
        def enter_mlp(norm: nn.Module, args: tuple) -> Tensor | None:
            return None if self.current is None else self.current.enter_mlp(i, args[0])

        return enter_mlp

    def leave_mlp(self, mlp: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return output if self.current is None else self.current.mlp.leave_mlp(output)

    def after_layer(self, i: int) -> Callable[..., Tensor | None]:
        def after_layer(layer: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
            if self.current is None:
                return None
            self.current.layers.done += 1
            return self.current.after_layer(i, output)

        return after_layer

    def _keep(self, generation: Generation, cache: Cache | None) -> None:
        """Find the generation again by its cache, which the text model may have made just now."""
        length = generation.cutting.run.valid.shape[1]
        self.cache = cache
        if cache is not None:
            check_kind(cache)
            self.generations[cache] = generation
        elif self.use_cache:
            raise broken("decoder layer 0 got no KV cache under a known name, though one is used")
        elif length - 1 == self.uncached:
            warnings.warn(_PRUNED_ANEW, stacklevel=2)
        self.uncached = length if cache is None else None

    def observer(self, i: int) -> Observer:
        def observe(attended: QueriesKeys) -> None:
            if self.current is not None:
                self.current.observe(i, attended)

        return observe

    def leave(self, text_model: nn.Module, args: tuple, output: Any) -> None:
        """Also after an exception, which leaves no output."""
        cache, self.cache = self.cache, None
        expect(cache, False)
        if self.current is None:
            return
        if output is not None:
            self.current.leave(cache)
        else:
            self.lost = self.current.layers.fault()

    def after_head(self, head: nn.Module, args: tuple, output: Any) -> None:
        self.clock.stop(self.phase)

    def end(self, model: nn.Module, args: tuple, output: Any) -> None:
        if self.vision.inside is not None:
            self.vision.inside.prompt = None
        if not self.entered:
            raise broken("the model ran without calling its text model's hooks")
