"""Runs plans on a stock model: the only code that registers hooks.

Inside `attach`, plain `model.generate(**inputs)` prunes in its prefill. Cuts make hidden states,
masks, position ids and the KV cache of later layers shorter; nothing is masked. When the context
ends, also by an exception, model and attention registry are as they were.

The state of a generation lives as long as its KV cache, so that several may interleave.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from methods.adapters import adapter_for
from methods.attention import QueriesKeys
from methods.caches import PrunedCache, cache_of, check_kind, expect, refused
from methods.clock import Clock, NoClock
from methods.encoder_calls import EncoderCalls
from methods.errors import MechanismError, PruningError
from methods.family import KINDS
from methods.generation import Generation
from methods.inside_tower import InsideTower
from methods.mechanism import broken
from methods.merged_tower import MergedWatch, MergingTower
from methods.method import Method
from methods.recording import Observer, observing
from methods.registry import check_method
from methods.sharing import SharedImages
from methods.sizes import Budget
from methods.tower_family import TowerAdapter, with_tower
from methods.tower_views import Recording
from methods.tower_watch import TowerWatch
from methods.trace import Prefill, Trace

_ATTACHED = "_visual_token_pruning"
_FILLED_ELSEWHERE = "the KV cache of this step was not filled by a prompt inside this context"
_PRUNED_ANEW = (
    "use_cache=False: the prompt is pruned anew for every new token, and a method that looks at "
    "the last token may choose differently each time"
)


@contextmanager
def attach(
    model: PreTrainedModel,
    method: Method,
    budget: Budget,
    seeds: Sequence[int] | None = None,
    images: SharedImages | None = None,
    clock: Clock | None = None,
    questions: Sequence[str] | None = None,
) -> Iterator[Trace]:
    """Prune every prefill of `model` with `method` at `budget` while the context lasts.

    `seeds`: one a sample of the batch, for methods that draw at random; its number by default.
    `images`: start from stored tower outputs, but for a method that cuts inside the tower. `clock`
    is told of the phases. `questions`: the text of each sample, for methods that read it otherwise
    than as the model's tokens.
    Raises PruningError for a model that is not supported or has a method attached already, for
    what is no method or no budget, for a stage that raises or selects what cannot be, for an
    infeasible budget (when the prefill's sizes are known), for uses that pruning would make
    silently wrong, and at its end where a stage ranked what is no number. MechanismError, one of
    them, says that hooks or caches did not do what this release of transformers was taken to do.
    """
    check_method(method)
    if not isinstance(budget, Budget):
        raise PruningError(f"a budget is Budget(tokens) or Budget(fraction=...), not {budget!r}")
    runtime = _Runtime(model, method, budget, seeds, images, clock or NoClock(), questions)
    if hasattr(model, _ATTACHED):
        raise PruningError("a method is attached to this model already; leave its context first")
    with ExitStack() as stack:
        stack.callback(delattr, model, _ATTACHED)
        setattr(model, _ATTACHED, method.name)
        stack.enter_context(observing(runtime.observers()))
        for handle in runtime.register():
            stack.callback(handle.remove)
        for module, name, function in runtime.replacements():
            _replace(stack, module, name, function)
        try:
            yield runtime.trace
        except Exception as error:
            if runtime.lost is not None and not isinstance(error, PruningError):
                raise runtime.lost from error
            raise
        runtime.trace.check_numbers()


def _replace(stack: ExitStack, module: nn.Module, name: str, function: Callable) -> None:
    """Put a function in the place of a module's own until the stack ends."""
    if name in module.__dict__:
        stack.callback(setattr, module, name, module.__dict__[name])
    else:
        stack.callback(delattr, module, name)
    setattr(module, name, function)


def _each(*observers: Observer) -> Observer:
    """All of them in turn."""

    def observe(attended: QueriesKeys) -> None:
        for own in observers:
            own(attended)

    return observe


class _Runtime:
    def __init__(
        self,
        model: PreTrainedModel,
        method: Method,
        budget: Budget,
        seeds: Sequence[int] | None,
        images: SharedImages | None,
        clock: Clock,
        questions: Sequence[str] | None,
    ) -> None:
        self.adapter = adapter_for(model)
        self.model, self.body = model, self.adapter.body
        self.method, self.budget, self.seeds = method, budget, seeds
        self.questions = questions
        self.clock = clock
        self.trace = Trace()
        self.input_ids: Tensor | None = None
        self.calls = EncoderCalls(self.adapter)
        self.inside: InsideTower | None = None
        self.watches: tuple[TowerWatch | MergedWatch, ...] = ()
        if method.inside_tower:
            tower = with_tower(self.adapter, method.label, crops=False)
            self.inside = InsideTower(tower, clock, method, budget, seeds)
            images = None  # what is cut inside the tower is one method's own
        if images is not None or method.tower_reads:
            self.watches = self._watches(images)
        self.phase = "prefill"
        self.entered = self.placed = False
        self.lost: MechanismError | None = None
        self.use_cache = True
        self.uncached: int | None = None
        self.current: Generation | None = None
        self.cache: Cache | None = None
        self.generations: WeakKeyDictionary[Cache, Generation] = WeakKeyDictionary()

    def _watches(self, images: SharedImages | None) -> tuple[TowerWatch | MergedWatch, ...]:
        """Of tokens, where the tower shows those, and of its rows for what it does not show so."""
        method, adapter = self.method, self.adapter
        watches: tuple[TowerWatch | MergedWatch, ...] = ()
        crops = method.crops and images is None
        if images is None and method.merged_reads and isinstance(adapter, MergingTower):
            watches = (MergedWatch(adapter, method.merged_reads, lambda: self.calls.within),)
            rows = isinstance(adapter, TowerAdapter) and (crops or not adapter.crops)
            if not rows or "image" in adapter.shown_kinds:
                return watches
        needs = method.label if method.tower_reads else "sharing what the vision tower made"
        tower = with_tower(adapter, needs, crops)
        return *watches, TowerWatch(tower, method, self.calls, images)

    # --- what is registered -----------------------------------------------------------------

    def observers(self) -> dict[nn.Module, Observer]:
        """Decoder layers show q and k to the stage before the next one, tower layers to theirs."""
        observers: dict[nn.Module, Observer] = {
            self.adapter.attention(layer): self._decoder_observer(i)
            for i, layer in enumerate(self.adapter.layers)
        }
        watching = [*self.watches, *([] if self.inside is None else [self.inside])]
        for own in (watch.observers() for watch in watching):
            both = {m: _each(observers[m], own[m]) for m in own.keys() & observers.keys()}
            observers |= own | both
        return observers

    def replacements(self) -> Iterator[tuple[nn.Module, str, Callable[..., Any]]]:
        """Functions that stand for a module's own meanwhile: the module, its name, the function."""
        for kind in KINDS:
            name = f"get_{kind}_features"
            encode = getattr(self.body, name, None)
            if encode is None:
                continue
            for watch in self.watches:
                if isinstance(watch, TowerWatch) and watch.images is not None:
                    encode = watch.sharing(watch.images, encode)
            yield self.body, name, self.calls.seeing(kind, encode)
        if self.inside is not None:
            yield self.model, "generate", self.inside.telling_the_prompt(self.model.generate)

    def register(self) -> Iterator[Any]:
        """Register all hooks; yields their handles."""
        adapter = self.adapter
        yield self.model.register_forward_pre_hook(self._begin, with_kwargs=True)
        yield self.body.register_forward_pre_hook(self._see_prompt, with_kwargs=True)
        if self.inside is not None:
            yield from self._register_inside_tower(self.inside)
        phases = [("vision_tower", tower) for tower in adapter.towers]
        if adapter.projector is not None:
            phases.append(("projector", adapter.projector))
        for phase, module in phases:
            yield module.register_forward_pre_hook(self._starter(phase))
            yield module.register_forward_hook(self._stopper(phase))
        for watch in self.watches:
            for module, before in watch.before().items():
                yield module.register_forward_pre_hook(before, with_kwargs=True)
            for module, after in watch.after().items():
                yield module.register_forward_hook(after)
        yield adapter.text_model.register_forward_pre_hook(self._enter, with_kwargs=True)
        for i, layer in enumerate(adapter.layers):
            yield layer.register_forward_pre_hook(self._layer_hook(i), with_kwargs=True)
            yield layer.register_forward_hook(self._after_layer(i))
            if self.method.inside_layers:
                norm, mlp = adapter.decoder_mlp(layer)
                yield norm.register_forward_pre_hook(self._enter_mlp(i))
                yield mlp.register_forward_hook(self._leave_mlp)
        yield adapter.text_model.register_forward_hook(self._leave, always_call=True)
        yield adapter.head.register_forward_hook(self._after_head)
        yield self.model.register_forward_hook(self._end)

    def _register_inside_tower(self, inside: InsideTower) -> Iterator[Any]:
        adapter = inside.adapter
        yield adapter.tower.register_forward_pre_hook(inside.begin)
        for i, layer in enumerate(adapter.tower_layers):
            norm, mlp = adapter.tower_mlp(layer)
            yield layer.register_forward_pre_hook(inside.enter_layer(i), with_kwargs=True)
            yield norm.register_forward_pre_hook(inside.enter_mlp(i))
            yield mlp.register_forward_hook(inside.leave_mlp)
            # before transformers' own hooks, which keep the states that the features come from
            yield layer.register_forward_hook(inside.leave_layer(i), prepend=True)
        yield adapter.projector.register_forward_hook(inside.leave_projector)

    def _starter(self, phase: str) -> Callable[..., None]:
        return lambda *_: self.clock.start(phase)

    def _stopper(self, phase: str) -> Callable[..., None]:
        return lambda *_: self.clock.stop(phase)

    # --- language model ---------------------------------------------------------------------

    def _begin(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        self.entered = False
        if kwargs.get("labels") is not None:
            raise PruningError("labels cannot be given: the logits of a pruned prompt are fewer")

    def _see_prompt(self, body: nn.Module, args: tuple, kwargs: dict) -> None:
        ids = kwargs.get("input_ids")
        self.input_ids = args[0] if ids is None and args else ids
        self.placed = kwargs.get("position_ids") is not None
        if self.inside is not None and self.input_ids is not None:
            self.inside.prompt = self.input_ids, kwargs.get("attention_mask")

    def _enter(self, text_model: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
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
        generation = Generation(self.adapter, self.clock, self.method, self.calls)
        # plans wait for the device once: before the phase begins, so that nothing does within it
        kwargs, added = self.adapter.added(kwargs)
        prefill = generation.plan(
            self.budget, self.seeds, self.questions, self.input_ids, kwargs, added
        )
        self.trace.prefills.append(prefill)
        self.clock.start(self.phase)
        self.current = generation
        # not cleared: without a cache every step is a prefill, and the tower runs only once
        inside = None if self.inside is None else self.inside.last
        return generation.enter_prefill(self._recording(prefill), kwargs, inside)

    def _recording(self, prefill: Prefill) -> Recording | None:
        """What the tower showed of the prompt's images."""
        if not any(plan.encoder for plan in prefill.plans):
            return None
        present = {s.kind for sizes in prefill.sizes for s in sizes.segments}
        encoded = {
            kind: [segment for own in self.calls.encoded.get(kind, ()) for segment in own]
            for kind in present
        }
        shown = (watch.recording_of(encoded) for watch in self.watches)
        return next((recording for recording in shown if recording is not None), None)

    def _layer_hook(self, i: int) -> Callable[..., tuple[tuple, dict] | None]:
        def before_layer(layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            generation = self.current
            if generation is None:
                return None
            if i == 0 and generation.prefilling:
                self._keep(generation, cache_of(kwargs))
            return generation.before_layer(i, args, kwargs)

        return before_layer

    def _enter_mlp(self, i: int) -> Callable[..., Tensor | None]:
        def enter_mlp(norm: nn.Module, args: tuple) -> Tensor | None:
            return None if self.current is None else self.current.enter_mlp(i, args[0])

        return enter_mlp

    def _leave_mlp(self, mlp: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return output if self.current is None else self.current.mlp.leave_mlp(output)

    def _after_layer(self, i: int) -> Callable[..., Tensor | None]:
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

    def _decoder_observer(self, i: int) -> Observer:
        def observe(attended: QueriesKeys) -> None:
            if self.current is not None:
                self.current.observe(i, attended)

        return observe

    def _leave(self, text_model: nn.Module, args: tuple, output: Any) -> None:
        """Also after an exception, which leaves no output."""
        cache, self.cache = self.cache, None
        expect(cache, False)
        if self.current is None:
            return
        if output is not None:
            self.current.leave(cache)
        else:
            self.lost = self.current.layers.fault()

    def _after_head(self, head: nn.Module, args: tuple, output: Any) -> None:
        self.clock.stop(self.phase)

    def _end(self, model: nn.Module, args: tuple, output: Any) -> None:
        if self.inside is not None:
            self.inside.prompt = None
        if not self.entered:
            raise broken("the model ran without calling its text model's hooks")
