"""The cuts of one prefill: those of the vision tower before layer 0, then before later layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from methods.attention import QueriesKeys
from methods.clock import Clock
from methods.errors import PruningError
from methods.family import Adapter
from methods.groups import Group, images_of, stages_by_layer
from methods.mechanism import broken
from methods.plan import DecoderStage
from methods.planning import due
from methods.reads import Read
from methods.sequence import Piece, Run, after_cut
from methods.stages import run_decoder_stage, run_encoder_stages
from methods.tower import TowerPass
from methods.tower_family import TowerAdapter, with_tower
from methods.tower_views import Recording
from methods.trace import Prefill, StageSelection
from methods.views import Shown

_OF_ATTENTION = {
    *(Read.KEYS, Read.TEXT_KEYS, Read.UNROTATED_KEYS, Read.UNROTATED_QUERY),
    *(Read.LAST_ATTENTION, Read.TEXT_ATTENTION, Read.VISUAL_ATTENTION),
}


class Cutting:
    """Goes from layer to layer with what is left: `run` is what the coming layer sees.

    `attended` are the queries and keys of the layer that has just run, to be set where `is_read`
    asks for them. Selections and counts go into `prefill`.
    """

    def __init__(
        self,
        adapter: Adapter,
        clock: Clock,
        method: str,
        run: Run,
        groups: Sequence[Group],
        prefill: Prefill,
    ) -> None:
        self.adapter, self.clock, self.method = adapter, clock, method
        self.run, self.groups, self.prefill = run, groups, prefill
        self.stages = stages_by_layer(groups, len(adapter.layers), method)
        self.attended: QueriesKeys | None = None
        self.entered: Tensor | None = None
        self.counts: list[tuple[int, ...]] = []

    def is_read(self, layer: int) -> bool:
        """Whether a stage before this layer's MLP, or the next layer, reads its q and k."""
        return self._next_reads(layer, _OF_ATTENTION)

    def _next_reads(self, layer: int, reads: set[Read]) -> bool:
        coming = [*self._asked(layer, True), *self._asked(layer + 1, False)]
        return any(reads & set(stage.reads) for _, stage in coming)

    def _asked(self, layer: int, before_mlp: bool) -> list[tuple[Group, DecoderStage]]:
        """The stages there; of those by data the ones whose promise needs a cut."""
        stages = self.stages.get((layer, before_mlp), ())
        return [(g, stage) for g, stage in stages if not stage.by_data or self._is_due(g)]

    def _is_due(self, group: Group) -> bool:
        (row,) = group.rows
        entered = [own[row] for own in self.counts]
        total, layers = sum(group.plan.entering), len(group.plan.entering)
        return due(total, entered, self.run.counts[row], layers) > 0

    def before_the_decoder(
        self, hidden: Tensor, tower: Recording | None, inside: TowerPass | None
    ) -> Tensor:
        """Embeddings [B, L, D] of the prompt to what of them enters layer 0.

        `tower`, `inside`: what the vision tower showed, and what was cut between its layers.
        """
        hidden = self._take_cuts_inside(hidden, inside)
        hidden = self._cut_in_tower(hidden, tower)
        return self._cut(0, False, hidden)

    def before_layer(self, layer: int, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """States [B, L, D] that leave the layer before to those that enter `layer`.

        `rotary`: what transformers hands to the layer. Raises MechanismError for states of other
        rows than were left.
        """
        if self.run.rotary is None:
            self.run.rotary = rotary
        if layer > 0:
            hidden = self._cut(layer, False, hidden)
        found, left = hidden.shape[1], self.run.valid.shape[1]
        if found != left:
            raise broken(f"layer {layer} got {found} tokens where {left} were left")
        self.prefill.visual_by_layer.append(self.run.visual_counts)
        self.counts.append(self.run.counts)
        if self._next_reads(layer, {Read.PREVIOUS_HIDDEN}):
            self.entered = hidden
        return hidden

    def before_mlp(self, layer: int, states: Tensor) -> Tensor:
        """States [B, L, D] that a layer's attention hands to its MLP to those that it works on."""
        states = self._cut(layer, True, states)
        self.prefill.mlp_by_layer.append(self.run.visual_counts)
        return states

    def _take_cuts_inside(self, hidden: Tensor, inside: TowerPass | None) -> Tensor:
        """Leave out the rows of the prompt that were dropped between the tower's layers."""
        groups = [group for group in self.groups if group.plan.tower]
        if not groups:
            return hidden
        if inside is None:
            raise PruningError(
                f"{self.method} cuts inside the vision tower, which did not run for this "
                "prompt; such a method sets inside_tower = True"
            )
        images = images_of(self.prefill.sizes, len(inside.images))
        self.prefill.tower_rows = [
            inside.rows_of([place for (place,) in places]) if plan.tower else ()
            for places, plan in zip(images, self.prefill.plans, strict=True)
        ]
        hidden = self._go_on(0, hidden, [inside.piece(group, self.run, images) for group in groups])
        self.groups[0].sound += inside.sound
        return hidden

    def _cut_in_tower(self, hidden: Tensor, tower: Recording | None) -> Tensor:
        groups = [group for group in self.groups if group.plan.encoder]
        if not groups:
            return hidden
        read = {kind for group in groups for kind in group.kinds_read}
        if unseen := read - set(("image",) if tower is None else tower.kinds):
            where = " beside videos" if "video" in read - unseen else ""
            raise PruningError(f"{self.method} is not defined here for {unseen.pop()}s{where}")
        if tower is None:
            with_tower(self.adapter, self.method, crops=True)
            raise broken("the vision tower ran without showing what the method reads")
        images = images_of(self.prefill.sizes, tower.count, tower.kinds)
        project = self.adapter.project if isinstance(self.adapter, TowerAdapter) else None
        self.clock.start("selection")
        found = [
            run_encoder_stages(self.method, group, self.run, tower, images, project)
            for group in groups
        ]
        hidden = self._go_on(0, hidden, found)
        self.clock.stop("selection")
        return hidden

    def _cut(self, layer: int, before_mlp: bool, hidden: Tensor) -> Tensor:
        asked = self._asked(layer, before_mlp)
        if not asked:
            return hidden
        self._move(hidden.device)
        self.prefill.asked.add((layer, before_mlp))
        self.clock.start("selection")
        attended, entered = self.attended, self.entered
        seen = Shown(self.adapter, layer, self.run, hidden, entered, attended, self.counts)
        found = [run_decoder_stage(self.method, group, stage, seen) for group, stage in asked]
        hidden = self._go_on(layer + before_mlp, hidden, found)
        self.attended = self.entered = None
        self.clock.stop("selection")
        return hidden

    def _go_on(
        self,
        layer: int,
        hidden: Tensor,
        found: Iterable[tuple[Piece | None, list[StageSelection]]],
    ) -> Tensor:
        """Make what stages found the current run, if any cut; returns its states."""
        pieces = []
        for piece, selections in found:
            self.prefill.selections += selections
            if piece is not None:
                pieces.append(piece)
        if not pieces:
            return hidden
        before = self.run
        if before.added and any(piece.states is not None for piece in pieces):
            raise PruningError(
                f"{self.method} is not defined here for {self.adapter.name}: it merges tokens, and "
                "to each of them features are added in later layers"
            )
        self.run, hidden = after_cut(before, layer, hidden, pieces)
        if before.rotary is not None and self.run.rotary is None:
            self.run.rotary = self.adapter.rotary(hidden, self.run.position_ids)
        return hidden

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
