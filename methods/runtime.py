"""Runs plans on a stock model: the only code that registers hooks.

Inside `attach`, plain `model.generate(**inputs)` prunes in its prefill. Cuts make hidden states,
masks, position ids and the KV cache of later layers shorter; nothing is masked. When the context
ends, also by an exception, model and attention registry are as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from methods.adapters import adapter_for
from methods.attention import QueriesKeys
from methods.clock import Clock, NoClock
from methods.encoded_batches import SharedBatch
from methods.errors import PruningError
from methods.family import KINDS
from methods.forwards import Forwards
from methods.inside_tower import InsideTower
from methods.method import Method
from methods.recording import Observer, observing
from methods.registry import check_method
from methods.sharing import SharedImages
from methods.sizes import Budget
from methods.tower_watch import TowerWatch
from methods.trace import Trace
from methods.vision import Vision

_ATTACHED = "_visual_token_pruning"


@contextmanager
def attach(
    model: PreTrainedModel,
    method: Method,
    budget: Budget,
    seeds: Sequence[int] | None = None,
    images: SharedImages | SharedBatch | None = None,
    clock: Clock | None = None,
    questions: Sequence[str] | None = None,
) -> Iterator[Trace]:
    """Prune every prefill of `model` with `method` at `budget` while the context lasts.

    `seeds`: one a sample of the batch, for methods that draw at random; its number by default.
    `images`: start from stored outputs of the tower, but for a method that cuts inside it, or from
    those of a whole batch for a method that `SharedBatch.serves`. `clock`
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
            yield runtime.forwards.trace
        except Exception as error:
            if runtime.forwards.lost is not None and not isinstance(error, PruningError):
                raise runtime.forwards.lost from error
            raise
        runtime.forwards.trace.check_numbers()


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
        images: SharedImages | SharedBatch | None,
        clock: Clock,
        questions: Sequence[str] | None,
    ) -> None:
        self.adapter = adapter_for(model)
        self.model, self.body = model, self.adapter.body
        self.clock = clock
        self.vision = Vision(self.adapter, clock, method, budget, seeds, images)
        self.forwards = Forwards(self.adapter, clock, method, budget, seeds, questions, self.vision)

    def observers(self) -> dict[nn.Module, Observer]:
        """Decoder layers show q and k to the stage before the next one, tower layers to theirs."""
        observers: dict[nn.Module, Observer] = {
            self.adapter.attention(layer): self.forwards.observer(i)
            for i, layer in enumerate(self.adapter.layers)
        }
        inside = self.vision.inside
        watching = [*self.vision.watches, *([] if inside is None else [inside])]
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
            for watch in self.vision.watches:
                if isinstance(watch, TowerWatch) and watch.images is not None:
                    encode = watch.sharing(watch.images, encode)
            if self.vision.batch is not None:
                encode = self.vision.batch.sharing(encode)
            yield self.body, name, self.vision.calls.seeing(kind, encode)
        if self.vision.inside is not None:
            yield self.model, "generate", self.vision.inside.telling_the_prompt(self.model.generate)

    def register(self) -> Iterator[Any]:
        """Register all hooks; yields their handles."""
        adapter, forwards = self.adapter, self.forwards
        yield self.model.register_forward_pre_hook(forwards.begin, with_kwargs=True)
        yield self.body.register_forward_pre_hook(forwards.see_prompt, with_kwargs=True)
        if self.vision.inside is not None:
            yield from self._register_inside_tower(self.vision.inside)
        phases = [("vision_tower", tower) for tower in adapter.towers]
        if adapter.projector is not None:
            phases.append(("projector", adapter.projector))
        for phase, module in phases:
            yield module.register_forward_pre_hook(self._starter(phase))
            yield module.register_forward_hook(self._stopper(phase))
        for watch in self.vision.watches:
            for module, before in watch.before().items():
                yield module.register_forward_pre_hook(before, with_kwargs=True)
            for module, after in watch.after().items():
                yield module.register_forward_hook(after)
        yield adapter.text_model.register_forward_pre_hook(forwards.enter, with_kwargs=True)
        for i, layer in enumerate(adapter.layers):
            yield layer.register_forward_pre_hook(forwards.before_layer(i), with_kwargs=True)
            yield layer.register_forward_hook(forwards.after_layer(i))
            if forwards.method.inside_layers:
                norm, mlp = adapter.decoder_mlp(layer)
                yield norm.register_forward_pre_hook(forwards.enter_mlp(i))
                yield mlp.register_forward_hook(forwards.leave_mlp)
        yield adapter.text_model.register_forward_hook(forwards.leave, always_call=True)
        yield adapter.head.register_forward_hook(forwards.after_head)
        yield self.model.register_forward_hook(forwards.end)

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
