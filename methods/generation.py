"""One generation under a plan: what each run of layers sees, from the prefill to the last token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

from methods.attention import QueriesKeys
from methods.caches import CACHE_ARGUMENT, cache_of, mark_pruned, rows_of
from methods.clock import Clock
from methods.errors import PruningError
from methods.family import Adapter
from methods.mechanism import LayerCount, broken
from methods.method import Method
from methods.plan import DecoderStage, NewTokens, Plan, Positions
from methods.reads import Read
from methods.sequence import Piece, Run, new_counts, new_lengths, new_positions, splice
from methods.sizes import Budget, Sizes
from methods.stages import run_decoder_stage, run_encoder_stages
from methods.tensors import gather_rows, last_true
from methods.tower import TowerPass
from methods.trace import Prefill
from methods.views import Group, Shown, TowerRecording, group_samples, seeds_of

_OF_ATTENTION = {
    *(Read.KEYS, Read.TEXT_KEYS, Read.UNROTATED_KEYS, Read.UNROTATED_QUERY),
    *(Read.LAST_ATTENTION, Read.TEXT_ATTENTION, Read.VISUAL_ATTENTION),
}


class Generation:
    """Made for a prefill; then asked before every layer, of the prefill and of each new token."""

    def __init__(self, adapter: Adapter, clock: Clock, method: Method) -> None:
        self.adapter, self.clock, self.method = adapter, clock, method
        self.prefilling = True
        self.steps = 0
        self.layers = LayerCount(len(adapter.layers))
        self.attended: QueriesKeys | None = None
        self.entered: Tensor | None = None

    def plan(
        self, budget: Budget, seeds: Sequence[int] | None, input_ids: Tensor, kwargs: dict
    ) -> Prefill:
        """Look at the prompt and plan every sample. `kwargs` are the text model's."""
        run = self.run = self._first_run(input_ids, kwargs)
        sizes = [self.adapter.sizes(count) for count in run.counts]
        plans = {own: planned(self.method, budget, own) for own in dict.fromkeys(sizes)}
        seeds = seeds_of(seeds, len(sizes))
        self.prompt_lengths = run.lengths
        self.groups = group_samples(sizes, plans, seeds, run.valid.device)
        self.sizes = sizes
        self.stages: dict[int, list[tuple[Group, DecoderStage]]] = {}
        for group in self.groups:
            for stage in group.plan.decoder:
                if not 0 <= stage.layer < len(self.adapter.layers):
                    raise PruningError(
                        f"{self.method.name}, stage {stage.name}: "
                        f"the model has no layer {stage.layer}"
                    )
                self.stages.setdefault(stage.layer, []).append((group, stage))
        self._check_window()
        self.prompt_end = torch.where(run.valid, run.positions, -1).amax(1) + 1
        self.own_positions = any(g.plan.new_tokens is NewTokens.CACHE for g in self.groups)
        self.prefill = Prefill(
            plans=tuple(plans[own] for own in sizes),
            sizes=tuple(sizes),
            text_counts=tuple(n - v for n, v in zip(run.lengths, run.counts, strict=True)),
        )
        return self.prefill

    def _first_run(self, input_ids: Tensor, kwargs: dict) -> Run:
        hidden, mask = kwargs["inputs_embeds"], kwargs.get("attention_mask")
        positions = kwargs.get("position_ids")
        if mask is not None and mask.dim() != 2:
            raise PruningError("pruning needs the attention mask as [batch, length]")
        valid = torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask.bool()
        valid = valid.to(hidden.device)
        visual = self.adapter.visual(input_ids).to(hidden.device) & valid
        if positions is None:
            positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        # the one wait for the device: plans are made of integers
        lengths, counts = torch.stack([valid.sum(1), visual.sum(1)]).tolist()
        return Run(
            first=0,
            valid=valid,
            visual=visual,
            positions=positions.to(hidden.device).expand(valid.shape),
            lengths=tuple(lengths),
            counts=tuple(counts),
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

    def is_read(self, layer: int) -> bool:
        """Whether a stage before the layer after this one reads this one's queries and keys."""
        return self.prefilling and self._next_reads(layer, _OF_ATTENTION)

    def _next_reads(self, layer: int, reads: set[Read]) -> bool:
        return any(reads & set(stage.reads) for _, stage in self.stages.get(layer + 1, ()))

    # --- before layer 0 ---------------------------------------------------------------------

    def enter_prefill(
        self, tower: TowerRecording | None, kwargs: dict, inside: TowerPass | None = None
    ) -> dict:
        """Cut what is cut before layer 0; returns the text model's kwargs.

        `tower`, `inside`: what the vision tower showed, and what was cut between its layers.
        """
        hidden = self._take_cuts_inside(kwargs["inputs_embeds"], inside)
        hidden = self._cut_in_tower(hidden, tower)
        hidden = self._cut_before(0, hidden)
        entered = self.run.valid.sum(1)
        for group in self.groups:
            if group.plan.new_tokens is NewTokens.ENTERED:
                self.prompt_end[group.at] = entered[group.at]
        self.runs = [self.run]
        self._place_new_tokens()
        self.untouched = hidden is kwargs["inputs_embeds"]
        if self.untouched:
            return kwargs
        return {
            **kwargs,
            "inputs_embeds": hidden,
            "attention_mask": self.run.mask_2d,
            "position_ids": self.run.positions,
        }

    def enter_step(self, kwargs: dict) -> dict:
        """Take in the token generated last; returns the text model's kwargs."""
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
            "position_ids": first.next_position[:, None] - 1,
        }

    def _take_cuts_inside(self, hidden: Tensor, inside: TowerPass | None) -> Tensor:
        """Leave out the rows of the prompt that were dropped between the tower's layers."""
        groups = [group for group in self.groups if group.plan.tower]
        if not groups:
            return hidden
        if inside is None:
            raise PruningError(
                f"{self.method.name} cuts inside the vision tower, which did not run for this "
                "prompt; such a method sets inside_tower = True"
            )
        images = _images_of(self.sizes, len(inside.images))
        found = [inside.piece(group, self.run, images) for group in groups]
        for _, selections in found:
            self.prefill.selections += selections
        self.prefill.tower_rows = [
            inside.rows_of(places) if group_has_tower else ()
            for places, group_has_tower in zip(
                images, (bool(plan.tower) for plan in self.prefill.plans), strict=True
            )
        ]
        self.groups[0].sound += inside.sound
        return self._go_on(0, hidden, [piece for piece, _ in found])

    def _cut_in_tower(self, hidden: Tensor, tower: TowerRecording | None) -> Tensor:
        groups = [group for group in self.groups if group.plan.encoder]
        if not groups:
            return hidden
        if tower is None:
            raise broken("the vision tower ran without showing what the method reads")
        images = _images_of(self.sizes, len(tower.features))
        self.clock.start("selection")
        pieces = []
        for group in groups:
            piece, selections = run_encoder_stages(
                self.method.name, group, self.run, tower, images, self.adapter.project
            )
            self.prefill.selections += selections
            if piece is not None:
                pieces.append(piece)
        if pieces:
            hidden = self._go_on(0, hidden, pieces)
        self.clock.stop("selection")
        return hidden

    # --- before each layer ------------------------------------------------------------------

    def before_layer(self, i: int, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Cut if a stage lies here; returns what the layer gets, None to leave it as it is."""
        hidden = args[0]
        self.layers.pass_by(i)
        if self.prefilling:
            hidden = self._prefill_layer(i, hidden, kwargs)
        run = next(run for run in reversed(self.runs) if run.first <= i)
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

    def _prefill_layer(self, i: int, hidden: Tensor, kwargs: dict) -> Tensor:
        if i > 0:
            if self.run.rotary is None:
                self.run.rotary = kwargs["position_embeddings"]
            hidden = self._cut_before(i, hidden)
            if self.run is not self.runs[-1]:
                self.untouched = False
                self.runs.append(self.run)
                self._place_new_tokens()
        if hidden.shape[1] != self.run.valid.shape[1]:
            raise broken(
                f"layer {i} got {hidden.shape[1]} tokens where {self.run.valid.shape[1]} were left"
            )
        self.prefill.visual_by_layer.append(self.run.visual_counts)
        if self._next_reads(i, {Read.PREVIOUS_HIDDEN}):
            self.entered = hidden
        return hidden

    def _cut_before(self, layer: int, hidden: Tensor) -> Tensor:
        """Run the stages before `layer`; sets `run` to what goes on."""
        if layer not in self.stages:
            return hidden
        self._move(hidden.device)
        self.clock.start("selection")
        pieces = []
        seen = Shown(
            hidden,
            self.entered,
            self.attended,
            partial(self._about_to, layer, hidden),
            self._unrotated,
            self.adapter.norm,
            self.adapter.inverse_frequencies,
        )
        for group, stage in self.stages[layer]:
            piece, selections = run_decoder_stage(self.method.name, group, stage, self.run, seen)
            self.prefill.selections += selections
            if piece is not None:
                pieces.append(piece)
        if pieces:
            hidden = self._go_on(layer, hidden, pieces)
        self.attended = self.entered = None
        self.clock.stop("selection")
        return hidden

    def _about_to(self, layer: int, hidden: Tensor) -> QueriesKeys:
        """Of the layer about to run: q of each prompt's last token, and k of all."""
        rotary = self.run.rotary or self.adapter.rotary(hidden, self.run.positions)
        return self.adapter.queries_keys(layer, hidden, rotary, last_true(self.run.valid, 1))

    def _unrotated(self, group: Group, states: Tensor, places: Tensor) -> Tensor:
        """States [b, H, r, d] of places [b, r] in the current run as they were before RoPE."""
        assert self.run.rotary is not None
        batch = len(self.run.valid)
        rotary = (part.expand(batch, -1, -1)[group.at] for part in self.run.rotary)
        cos, sin = (gather_rows(part, places) for part in rotary)
        return self.adapter.unrotated(states, (cos, sin))

    def _go_on(self, layer: int, hidden: Tensor, pieces: Sequence[Piece]) -> Tensor:
        """Make the sequence after a cut the current one; returns its states."""
        run = self.run
        spliced = splice(run, pieces)
        counts = new_counts(pieces)
        self.run = Run(
            first=layer,
            valid=spliced.valid,
            visual=spliced.visual,
            positions=new_positions(run, spliced, pieces),
            lengths=new_lengths(run, pieces),
            counts=tuple(counts.get(row, count) for row, count in enumerate(run.counts)),
        )
        hidden = spliced.states(hidden, pieces)
        if layer > 0 and run.rotary is not None:
            if all(piece.positions is Positions.ORIGINAL for piece in pieces):
                batch = len(spliced.source)
                cos, sin = (part.expand(batch, -1, -1) for part in run.rotary)
                self.run.rotary = gather_rows(cos, spliced.source), gather_rows(sin, spliced.source)
            else:
                self.run.rotary = self.adapter.rotary(hidden, self.run.positions)
        return hidden

    def _prepare(self, run: Run, hidden: Tensor, kwargs: dict) -> None:
        """Mask and, for a new token, rotary angles of a run's layers in this forward."""
        run.mask = self._mask(run, hidden, kwargs)
        if not self.prefilling:
            run.rotary = None
            if self.own_positions:
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

    def _place_new_tokens(self) -> None:
        """Position of the first new token in the layers of the current run."""
        run = self.run
        run.next_position = self.prompt_end.to(run.valid.device, copy=True)
        for group in self.groups:
            if group.plan.new_tokens is NewTokens.CACHE:
                first = torch.where(run.valid, run.positions, run.positions.amax()).amin(1)
                run.next_position[group.at] = (first + run.valid.sum(1))[group.at]

    def _move(self, device: torch.device) -> None:
        """Follow a model that is spread over devices."""
        if self.run.valid.device != device:
            self.run = self.run.to(device)
            for group in self.groups:
                group.to(device)
            if self.attended is not None:
                self.attended = self.attended.to(device)
            if self.entered is not None:
                self.entered = self.entered.to(device)

    def leave(self, cache: Cache | None) -> None:
        """After the last layer: hold layers and cache to what they must be, and count the latter.

        Raises MechanismError.
        """
        self.layers.check()
        if cache is not None and self.steps <= 1:
            self._check_cache(cache)
        if self.prefilling and cache is not None:
            self._count_cache(cache)
            if not self.untouched:
                mark_pruned(cache)
        self.prefill.sound = [pair for group in self.groups for pair in group.sound]
        self.prefilling = False

    def _check_cache(self, cache: Cache) -> None:
        """That every layer's cache holds just the rows of its run."""
        for i, run in enumerate(self._run_of_layers()):
            found = rows_of(cache, i)
            wanted = run.valid.shape[1] + (self.steps if self.untouched else 0)
            if found != wanted:
                raise broken(f"layer {i} caches {found} rows, {wanted} tokens entered it")

    def _count_cache(self, cache: Cache) -> None:
        counted: dict[int, Tensor] = {}  # equal layers cost the device one kernel
        for i, run in enumerate(self._run_of_layers()):
            if run.first not in counted:
                counted[run.first] = rows_of(cache, i) - (~run.valid).sum(1)
            self.prefill.cached_by_layer.append(counted[run.first])

    def _run_of_layers(self) -> Iterator[Run]:
        """The run that each decoder layer belongs to."""
        for i in range(len(self.adapter.layers)):
            yield next(run for run in reversed(self.runs) if run.first <= i)


@lru_cache(maxsize=256)
def planned(method: Method, budget: Budget, sizes: Sizes) -> Plan:
    """The method's plan; solving one takes milliseconds, and every batch asks for the same few."""
    return method.plan(budget, sizes)


def _images_of(sizes: Sequence[Sizes], recorded: int) -> list[list[int]]:
    """Places among the recorded images of each sample's own.

    Beams and repeated sequences multiply the samples, with the images recorded once.
    """
    needed = sum(len(own.segments) for own in sizes)
    if recorded == 0 or needed % recorded:
        raise PruningError(f"the prompts name {needed} images but {recorded} were given")
    repeats, images, start = needed // recorded, [], 0
    for own in sizes[::repeats]:
        places = list(range(start, start + len(own.segments)))
        images += [places] * repeats
        start += len(own.segments)
    return images
