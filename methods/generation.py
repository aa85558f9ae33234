"""One generation under a plan: what each run of layers sees, from the prefill to the last token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

from methods.attention import QueriesKeys
from methods.caches import CACHE_ARGUMENT, cache_of, mark_pruned, rows_of
from methods.clock import Clock
from methods.cutting import Cutting
from methods.encoder_calls import EncoderCalls
from methods.errors import PruningError
from methods.family import Adapter
from methods.groups import dealt, group_samples, seeds_of
from methods.mechanism import LayerCount, check_cache
from methods.method import Method
from methods.new_tokens import NewPositions
from methods.plan import Plan
from methods.positions import AXES, check_plan
from methods.prompt import read_prompt
from methods.sequence import Run, run_of
from methods.shorter_mlp import ShorterMlp
from methods.sizes import Budget, Sizes
from methods.tower import TowerPass
from methods.tower_views import Recording
from methods.trace import Prefill


class Generation:
    """Made for a prefill; then asked before every layer, of the prefill and of each new token."""

    def __init__(self, adapter: Adapter, clock: Clock, method: Method, calls: EncoderCalls) -> None:
        self.adapter, self.clock, self.method, self.calls = adapter, clock, method, calls
        self.prefilling = True
        self.steps = 0
        self.layers = LayerCount(len(adapter.layers))
        self.mlp = ShorterMlp()

    def plan(
        self,
        budget: Budget,
        seeds: Sequence[int] | None,
        questions: Sequence[str] | None,
        input_ids: Tensor,
        kwargs: dict,
        added: tuple[Tensor, ...] = (),
    ) -> Prefill:
        """Look at the prompt and plan every sample. `kwargs` are the text model's, without what is
        `added` [B, L, D] to the output of its first layers.
        """
        run, segments = read_prompt(self.adapter, self.calls, input_ids, kwargs, added)
        sizes = [self.adapter.sizes_of(own) for own in segments]
        plans = {own: planned(self.method, budget, own) for own in dict.fromkeys(sizes)}
        if run.axes is not None:
            for plan in plans.values():
                check_plan(self.method.label, plan, self.adapter.name)
        seeds = seeds_of(seeds, len(sizes))
        self.prompt_lengths = run.lengths
        asked = dealt(questions, len(sizes), "questions") if questions else ()
        self.groups = group_samples(sizes, plans, seeds, run.valid.device, asked)
        self.prefill = Prefill(
            plans=tuple(plans[own] for own in sizes),
            sizes=tuple(sizes),
            text_counts=tuple(n - v for n, v in zip(run.lengths, run.counts, strict=True)),
            encoded=self.adapter.encoded,
        )
        self._check_inside()
        self.cutting = Cutting(
            self.adapter, self.clock, self.method.name, run, self.groups, self.prefill
        )
        self._check_window()
        self.new_positions = NewPositions(run, self.groups)
        return self.prefill

    def _check_inside(self) -> None:
        """Raises PruningError for stages that no hook would call."""
        stages = [stage for group in self.groups for stage in group.plan.decoder]
        if any(stage.before_mlp for stage in stages) and not self.method.inside_layers:
            raise PruningError(
                f"{self.method.name} cuts before a layer's MLP; such a method sets "
                "inside_layers = True"
            )

    def _check_window(self) -> None:
        """Raises PruningError where a layer would not see the whole sequence: rows that are left
        after a cut do not tell how far apart they were.
        """
        window = self.adapter.window
        length = max(self.prompt_lengths) + self.steps
        if window is not None and length >= window and any(g.plan.stages for g in self.groups):
            raise PruningError(
                f"a prompt with answer of {length} tokens cannot be pruned in a model whose layers "
                f"attend to windows of {window}; allowed are fewer than that"
            )

    # --- before layer 0 ---------------------------------------------------------------------

    def enter_prefill(
        self, tower: Recording | None, kwargs: dict, inside: TowerPass | None = None
    ) -> dict:
        """Cut what is cut before layer 0; returns the text model's kwargs.

        `tower`, `inside`: what the vision tower showed, and what was cut between its layers.
        """
        hidden = self.cutting.before_the_decoder(kwargs["inputs_embeds"], tower, inside)
        run = self.cutting.run
        self.runs = [run]
        self.new_positions.enter(run)
        self.new_positions.place(run)
        self.untouched = hidden is kwargs["inputs_embeds"]
        self.missing = kwargs["inputs_embeds"].shape[1] - hidden.shape[1]
        if self.untouched:
            return kwargs
        return {
            **kwargs,
            "inputs_embeds": hidden,
            "attention_mask": run.mask_2d,
            "position_ids": run.position_ids,
        }

    def enter_step(self, kwargs: dict, placed: bool) -> dict:
        """Take in the token generated last; returns the text model's kwargs.

        `placed`: the caller gave the token's position, and not the model by the cache's length.
        """
        self.steps += 1
        self.layers.restart()
        if self.untouched:
            return kwargs
        self._check_window()
        if kwargs["inputs_embeds"].shape[1] != 1:
            raise PruningError(
                "a pruned prompt is continued token by token: "
                "no chunked prefill, no second prompt on its cache, no assisted decoding"
            )
        for run in self.runs:
            run.grow()
        first = self.runs[0]
        return {
            **kwargs,
            "attention_mask": first.mask_2d,
            "position_ids": first.next_position[:, None] - 1
            if first.axes is None
            else kwargs["position_ids"][-AXES:] + (0 if placed else self.missing),
        }

    # --- before each layer ------------------------------------------------------------------

    def before_layer(self, i: int, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Cut if a stage lies here; returns what the layer gets, None to leave it as it is."""
        hidden = args[0]
        self.layers.pass_by(i)
        if self.prefilling:
            hidden = self.cutting.before_layer(i, hidden, kwargs["position_embeddings"])
            self._take_over(self.cutting.run)
        run = run_of(self.runs, i)
        if run is self.runs[0]:
            return None
        if i == run.first:
            self._prepare(run, hidden, kwargs)
        return (hidden, *args[1:]), {
            **kwargs,
            "attention_mask": run.mask,
            # ids with gaps would be taken for several packed sequences
            "position_ids": None,
            "position_embeddings": run.rotary or kwargs["position_embeddings"],
        }

    def enter_mlp(self, i: int, states: Tensor) -> Tensor:
        """What layer i's MLP works on, instead of all rows that its attention gave."""
        if not self.prefilling:
            return states
        return self.mlp.enter(states, self.cutting.before_mlp(i, states))

    def after_layer(self, i: int, output: Tensor) -> Tensor:
        """What leaves layer i."""
        output = self.mlp.leave_layer(output)
        if not self.prefilling or i >= len(self.cutting.run.added):
            return output
        return output + self.cutting.run.added[i].to(output.device)

    def _take_over(self, run: Run) -> None:
        """Go on with a run that a cut has just made."""
        if run is not self.runs[-1]:
            self.untouched = False
            self.runs.append(run)
            self.new_positions.place(run)

    def observe(self, layer: int, attended: QueriesKeys) -> None:
        """Queries and keys of the layer at work, kept where a stage before the next reads them."""
        if self.prefilling and self.cutting.is_read(layer):
            self.cutting.attended = attended

    def _prepare(self, run: Run, hidden: Tensor, kwargs: dict) -> None:
        """Mask and, for a new token, rotary angles of a run's layers in this forward."""
        run.mask = self._mask(run, hidden, kwargs)
        if not self.prefilling:
            run.rotary = None
            if self.new_positions.differ:
                run.rotary = self.adapter.rotary(hidden, run.next_position[:, None] - 1)

    def _mask(self, run: Run, hidden: Tensor, kwargs: dict) -> Any:
        if self.steps > 1 and isinstance(run.mask, Tensor):
            # a token attends to itself and to what the one before it attended to
            return torch.cat([run.mask, run.mask[..., -1:]], -1)
        padding = run.mask_2d
        return create_causal_mask(
            config=self.adapter.text_config,
            inputs_embeds=hidden,
            attention_mask=padding,
            position_ids=None,
            layer_idx=run.first,
            # what may be skipped is known here; to find out, it would wait for the device
            allow_is_causal_skip=padding is None,
            **{CACHE_ARGUMENT: cache_of(kwargs)},
        )

    def leave(self, cache: Cache | None) -> None:
        """After the last layer: hold layers and cache to what they must be, and count the latter.

        Raises MechanismError.
        """
        self.layers.check()
        if cache is not None and self.steps <= 1:
            grown = self.steps if self.untouched else 0
            check_cache(cache, (run.valid.shape[1] + grown for run in self._run_of_layers()))
        if self.prefilling and cache is not None:
            self._count_cache(cache)
            if not self.untouched:
                mark_pruned(cache)
        for run in self.runs:
            run.added = ()
        self.prefill.sound = [pair for group in self.groups for pair in group.sound]
        self.prefilling = False

    def _count_cache(self, cache: Cache) -> None:
        counted: dict[int, Tensor] = {}  # equal layers cost the device one kernel
        for i, run in enumerate(self._run_of_layers()):
            if run.first not in counted:
                counted[run.first] = rows_of(cache, i) - (~run.valid).sum(1)
            self.prefill.cached_by_layer.append(counted[run.first])

    def _run_of_layers(self) -> Iterator[Run]:
        """The run that each decoder layer belongs to."""
        return (run_of(self.runs, i) for i in range(len(self.adapter.layers)))


@lru_cache(maxsize=256)
def planned(method: Method, budget: Budget, sizes: Sizes) -> Plan:
    """The method's plan; solving one takes milliseconds, and every batch asks for the same few."""
    return method.plan(budget, sizes)
