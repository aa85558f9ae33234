"""One forward of the vision tower in which rows are dropped or merged between its layers.

Every image goes by the plan of its sample, so that the prompt has to be known before its images
are encoded. Rows of images that go on with different counts are padded on the right, and masked.
Where data decide how many rows stay, the host waits for the counts once a cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from methods.attention import QueriesKeys
from methods.interface import (
    Cut,
    Plan,
    Positions,
    PruningError,
    Read,
    Segment,
    Selection,
    Sizes,
    TowerStage,
    View,
)
from methods.mechanism import broken
from methods.sequence import Piece, Run
from methods.stages import merged_numbers, selected
from methods.tensors import apply_cut, first_true, gather_rows
from methods.trace import ImageRows, StageSelection
from methods.views import Group

if TYPE_CHECKING:
    from methods.adapters import LlavaAdapter
    from methods.runtime import Clock


@dataclass
class ImageGroup:
    """Images of a batch with the same stages; `at` is `places` as an index.

    `stages` by layer and whether they lie before its MLP; `carry` is what stages left over rows.
    """

    places: tuple[int, ...]
    at: Tensor
    segment: Segment
    stages: Mapping[tuple[int, bool], TowerStage]
    seeds: tuple[int, ...]
    carry: dict[str, Tensor] = field(default_factory=dict)

    def follow(self, selection: Selection) -> None:
        """Take what was left through the cut, and over what the stage left."""
        if selection.cut is not None:
            anchors = selection.cut.anchors
            self.carry = {name: gather_rows(v, anchors) for name, v in self.carry.items()}
        self.carry.update(selection.visual)


class TowerPass:
    """Made for the images of a batch; then asked before, in and after every layer of the tower."""

    def __init__(
        self,
        adapter: LlavaAdapter,
        clock: Clock,
        method: str,
        sizes: Sequence[Sizes],
        plans: Sequence[Plan],
        seeds: Sequence[int],
    ) -> None:
        self.adapter, self.clock, self.method = adapter, clock, method
        self.sizes, self.plans, self.seeds = sizes, plans, seeds
        self.images = [(row, i) for row, own in enumerate(sizes) for i in range(len(own.segments))]
        self.read = {stage.layer for plan in plans for stage in chain(*plan.tower) if stage.reads}
        self.layer_rows: list[tuple[list[int], list[int]]] = []
        self.sound: list[tuple[str, Tensor]] = []
        self.attended: QueriesKeys | None = None
        self.leaving: Tensor | None = None
        self.merged = False

    # --- layer by layer ---------------------------------------------------------------------

    def enter_layer(self, layer: int, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """What the layer gets where some of its rows are padding; None to leave it as it is."""
        hidden = args[0]
        if layer == 0:
            self._begin(hidden)
        if hidden.shape[:2] != self.origin.shape:
            found, due = list(hidden.shape[:2]), list(self.origin.shape)
            raise broken(f"tower layer {layer} got rows {found} where {due} were left")
        self.layer_rows.append((list(self.counts), list(self.counts)))
        if min(self.counts) == max(self.counts):
            return None
        mask = create_bidirectional_mask(
            config=self.adapter.vision_config,
            inputs_embeds=hidden,
            attention_mask=self._valid(slice(None)).long(),
        )
        if len(args) > 1:
            return (hidden, mask, *args[2:]), kwargs
        return args, {**kwargs, "attention_mask": mask}

    def observe(self, layer: int, attended: QueriesKeys) -> None:
        """Queries, keys and values of the layer at work."""
        if layer in self.read:
            self.attended = attended

    def enter_mlp(self, layer: int, states: Tensor) -> Tensor:
        """What the layer's MLP works on, instead of all rows that its attention gave."""
        cut = self._cut(layer, True, states)
        self.layer_rows[-1] = (self.layer_rows[-1][0], list(self.counts))
        self.leaving = None if cut is states else cut
        return cut

    def leave_mlp(self, output: Tensor) -> Tensor:
        """The MLP's result; nothing where rows were cut before it: `leave_layer` has the sum then,
        which the layer itself would form with all the rows that its attention gave.
        """
        if self.leaving is None:
            return output
        self.leaving = self.leaving + output
        return output.new_zeros(1)

    def leave_layer(self, layer: int, output: Tensor) -> Tensor:
        """What leaves the layer, cut."""
        states = output if self.leaving is None else self.leaving
        self.leaving = None
        states = self._cut(layer, False, states)
        self.attended = None
        return states

    def _begin(self, hidden: Tensor) -> None:
        images, rows = hidden.shape[:2]
        if images != len(self.images):
            raise PruningError(
                f"the prompts name {len(self.images)} images but {images} were given"
            )
        self.counts = [rows] * images
        self.lengths = torch.full((images,), rows, device=hidden.device)
        # of each row that is left, its row at the start; of each row at the start, where it is now
        self.origin = torch.arange(rows, device=hidden.device).expand(images, -1)
        self.place_of = self.origin
        self.groups = self._grouped(hidden.device)

    def _grouped(self, device: torch.device) -> list[ImageGroup]:
        places: dict[tuple[int, int], list[int]] = {}
        for place, (row, i) in enumerate(self.images):
            if self.plans[row].tower:
                places.setdefault((id(self.plans[row]), i), []).append(place)
        groups = []
        for (_, i), own in places.items():
            row = self.images[own[0]][0]
            groups.append(
                ImageGroup(
                    places=tuple(own),
                    at=torch.tensor(own, device=device),
                    segment=self.sizes[row].segments[i],
                    stages={(s.layer, s.before_mlp): s for s in self.plans[row].tower[i]},
                    seeds=tuple(self.seeds[self.images[place][0]] for place in own),
                )
            )
        return groups

    # --- one cut ----------------------------------------------------------------------------

    def _cut(self, layer: int, before_mlp: bool, hidden: Tensor) -> Tensor:
        todo = [
            (g, g.stages[layer, before_mlp]) for g in self.groups if (layer, before_mlp) in g.stages
        ]
        if not todo:
            return hidden
        self.clock.start("selection")
        cuts = []
        for group, stage in todo:
            cut = self._selected(group, stage, hidden)
            if cut is not None:
                cuts.append((group, stage, cut))
        if cuts:
            hidden = self._go_on(hidden, cuts)
        self.clock.stop("selection")
        return hidden

    def _selected(self, group: ImageGroup, stage: TowerStage, hidden: Tensor) -> Cut | None:
        rows = self._rows(group)
        selection = selected(
            self._where(stage), stage, self._view(group, stage, hidden), rows, self.sound
        )
        group.follow(selection)
        return selection.cut

    def _where(self, stage: TowerStage) -> str:
        return f"{self.method}, stage {stage.name} in layer {stage.layer} of the vision tower"

    def _rows(self, group: ImageGroup) -> int:
        """Rows of a group's views: those of its image with the most."""
        return max(self.counts[place] for place in group.places)

    def _valid(self, at: slice | Tensor) -> Tensor:
        """bool [b, rows]: not padding."""
        index = torch.arange(self.origin.shape[1], device=self.origin.device)
        return index < self.lengths[at][:, None]

    def _view(self, group: ImageGroup, stage: TowerStage, hidden: Tensor) -> View:
        rows, has_cls = self._rows(group), int(group.segment.has_cls)
        valid = self._valid(group.at)[:, :rows]
        shown: dict[Read, Tensor] = {}
        if Read.HIDDEN in stage.reads:
            shown[Read.HIDDEN] = hidden[group.at, :rows]
        if {Read.KEYS, Read.VALUES, Read.CLS_ATTENTION} & set(stage.reads):
            attended = self._attended_by(group, rows)
            if Read.KEYS in stage.reads:
                shown[Read.KEYS] = attended.keys.float()
            if Read.VALUES in stage.reads and attended.values is not None:
                shown[Read.VALUES] = attended.values.float()
            if Read.CLS_ATTENTION in stage.reads:
                shown[Read.CLS_ATTENTION] = _cls_attention(attended, valid, has_cls)
        return View(
            count=rows,
            segments=torch.zeros_like(valid, dtype=torch.long),
            seeds=group.seeds,
            carry={name: value[:, :rows] for name, value in group.carry.items()},
            reads=shown,
            valid=valid,
        )

    def _attended_by(self, group: ImageGroup, rows: int) -> QueriesKeys:
        attended = self.attended
        if attended is None or attended.values is None:
            raise broken("the vision tower's attention did not show its queries, keys and values")
        q, k, v = (
            part[group.at, :, :rows] for part in (attended.queries, attended.keys, attended.values)
        )
        return QueriesKeys(q, k, attended.scaling, v)

    def _go_on(self, hidden: Tensor, cuts: Sequence[tuple[ImageGroup, TowerStage, Cut]]) -> Tensor:
        """Make what the cuts leave the rows at work; returns their states."""
        before = {group.places: self._rows(group) for group, _, _ in cuts}
        self._count(cuts)
        width = max(self.counts)
        states, origin = hidden[:, :width].clone(), self.origin[:, :width].clone()
        place_of = self.place_of.clone()
        for group, stage, cut in cuts:
            at, rows = group.at, before[group.places]
            made = apply_cut(hidden[at, :rows], cut)
            if cut.groups is not None:
                self.merged = True
                self.sound.append(merged_numbers(self._where(stage), made))
            out = min(made.shape[1], width)
            states[at, :out] = made[:, :out]
            origin[at, :out] = gather_rows(self.origin[at], cut.anchors)[:, :out]
            place_of[at] = _followed(self.place_of[at], _new_places(cut, rows))
        self.origin, self.place_of = origin, place_of
        return states

    def _count(self, cuts: Sequence[tuple[ImageGroup, TowerStage, Cut]]) -> None:
        self.lengths = self.lengths.clone()
        for group, _, cut in cuts:
            out = cut.anchors.shape[1]
            self.lengths[group.at] = out if cut.counts is None else cut.counts
            for place in group.places:
                self.counts[place] = out
        if any(cut.counts is not None for _, _, cut in cuts):
            self.counts = self.lengths.tolist()

    # --- after the tower --------------------------------------------------------------------

    def spread(self, projected: Tensor) -> Tensor:
        """Projected rows [images, rows, D] to [images, patches, D], each in its patch's place, as
        the model wants them; places of patches that were dropped are zero.
        """
        if not self.groups:
            return projected
        self._check_layers()
        has_cls = int(self.adapter.has_cls)
        patches = self.place_of.shape[1] - has_cls
        valid = self._valid(slice(None))[:, has_cls:]
        index = torch.where(valid, self.origin[:, has_cls:] - has_cls, patches)
        index = index.to(projected.device)[..., None].expand_as(projected)
        whole = projected.new_zeros(len(projected), patches + 1, projected.shape[2])
        return whole.scatter(1, index, projected)[:, :patches]

    def _check_layers(self) -> None:
        seen, due = len(self.layer_rows), len(self.adapter.tower_layers)
        if seen != due:
            raise broken(f"{seen} of {due} layers of the vision tower were seen in one forward")

    def rows_of(self, places: Sequence[int]) -> ImageRows:
        """Rows of some images in every layer."""
        return tuple(tuple((a[p], m[p]) for a, m in self.layer_rows) for p in places)

    def piece(
        self, group: Group, run: Run, images: Sequence[Sequence[int]]
    ) -> tuple[Piece, list[StageSelection]]:
        """The visual rows that a group's samples go on with before layer 0.

        `images[row]`: places among the tower's images of a sample's own.
        """
        slots = first_true(run.visual[group.at], run.counts[group.rows[0]])
        start, kept, selections = 0, [], []
        for i, segment in enumerate(group.sizes.segments):
            cut = self._whole_cut(group, [images[row][i] for row in group.rows], segment, run)
            kept.append(gather_rows(slots, start + cut.anchors - int(segment.has_cls)))
            names = "+".join(dict.fromkeys(stage.name for stage in group.plan.tower[i]))
            selections.append(StageSelection(names, None, group.rows, i, cut))
            start += segment.tokens
        group.enter([own.shape[1] for own in kept], {})
        piece = Piece(group.rows, group.at, torch.cat(kept, 1), None, Positions.CONTIGUOUS)
        return piece, selections

    def _whole_cut(self, group: Group, places: list[int], segment: Segment, run: Run) -> Cut:
        """What all stages together made of the rows that entered the tower; without CLS."""
        counts = {self.counts[place] for place in places}
        if len(counts) > 1 or any(
            self.sizes[self.images[place][0]] != group.sizes for place in places
        ):
            raise PruningError("the images were encoded for prompts other than those that follow")
        (count,), has_cls = counts, int(segment.has_cls)
        at = torch.tensor(places, device=self.origin.device)
        anchors = self.origin[at, has_cls:count].to(run.valid.device)
        if not self.merged:
            return Cut(anchors)
        groups = (self.place_of[at] - has_cls).clamp(min=-1).to(run.valid.device)
        return Cut(anchors, groups, torch.zeros_like(anchors, dtype=torch.bool))


def _cls_attention(attended: QueriesKeys, valid: Tensor, has_cls: int) -> Tensor:
    """float32 [b, H, patches]: of the CLS row, or of all rows where there is none, on average."""
    batch, rows = valid.shape
    asking = torch.arange(1 if has_cls else rows, device=valid.device).expand(batch, -1)
    weights = attended.attention(asking, valid[:, None].expand(-1, asking.shape[1], -1))
    if has_cls:
        return weights[:, :, 0, 1:]
    asked = valid[:, None, :, None].float()
    return (weights * asked).sum(2) / asked.sum(2)


def _new_places(cut: Cut, rows: int) -> Tensor:
    """int64 [b, rows]: the output row that each row went into, -1 for none."""
    if cut.groups is not None:
        return cut.groups
    batch, out = cut.anchors.shape
    index = torch.arange(out, device=cut.anchors.device).expand(batch, -1)
    if cut.counts is not None:
        index = torch.where(index < cut.counts[:, None], index, -1)
    return torch.full_like(cut.anchors[:, :1], -1).repeat(1, rows).scatter(1, cut.anchors, index)


def _followed(places: Tensor, new: Tensor) -> Tensor:
    """Places int64 [b, n] of the rows at the start, through one more cut."""
    return torch.where(places >= 0, new.gather(1, places.clamp(min=0)), -1)
