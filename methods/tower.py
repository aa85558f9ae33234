"""One forward of the vision tower in which rows are dropped or merged between its layers.

Every image goes by the plan of its sample, so that the prompt has to be known before its images
are encoded. Rows of images that go on with different counts are padded on the right, and masked.
Where data decide how many rows stay, the host waits for the counts once a cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from methods.attention import QueriesKeys
from methods.clock import Clock
from methods.errors import PruningError
from methods.groups import Group, ImageGroup
from methods.mechanism import broken
from methods.plan import Cut, Plan, Positions, TowerStage
from methods.sequence import Piece, Run
from methods.shorter_mlp import ShorterMlp
from methods.sizes import Segment, Sizes
from methods.stages import merged_numbers, selected
from methods.tensors import first_true, gather_rows, index_of
from methods.tower_family import TowerAdapter
from methods.tower_rows import ImagesCut, RowsAtWork
from methods.tower_views import inside_view
from methods.trace import ImageRows, StageSelection


class TowerPass:
    """Made for the images of a batch; then asked before, in and after every layer of the tower.

    Raises PruningError for stages that cannot run there.
    """

    def __init__(
        self,
        adapter: TowerAdapter,
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
        self.layer_rows: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.sound: list[tuple[str, Tensor]] = []
        self.attended: QueriesKeys | None = None
        self.mlp = ShorterMlp()
        self._check_stages()

    def _check_stages(self) -> None:
        last = self.sizes[0].feature_layer if self.sizes else 0
        for plan in self.plans:
            if plan.tower and plan.encoder:
                raise PruningError(
                    f"{self.method}: stages inside the vision tower and after it do not go together"
                )
            for stage in chain(*plan.tower):
                if not 0 <= stage.layer <= last:
                    raise PruningError(
                        f"{self._where(stage)}: allowed are layers 0 to {last}, which is used"
                    )

    # --- layer by layer ---------------------------------------------------------------------

    def enter_layer(self, layer: int, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """What the layer gets where some of its rows are padding; None to leave it as it is."""
        hidden = args[0]
        if layer == 0:
            self._begin(hidden)
        if hidden.shape[:2] != self.rows.origin.shape:
            found, due = list(hidden.shape[:2]), list(self.rows.origin.shape)
            raise broken(f"tower layer {layer} got rows {found} where {due} were left")
        counts = tuple(self.rows.counts)
        self.layer_rows.append((counts, counts))
        if not self.rows.padded:
            return None
        mask = create_bidirectional_mask(
            config=self.adapter.vision_config,
            inputs_embeds=hidden,
            attention_mask=self.rows.valid(slice(None)).long(),
            # it is padded: to find that out, it would wait for the device
            allow_is_bidirectional_skip=False,
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
        self.layer_rows[-1] = (self.layer_rows[-1][0], tuple(self.rows.counts))
        return self.mlp.enter(states, cut)

    def leave_layer(self, layer: int, output: Tensor) -> Tensor:
        """What leaves the layer, cut."""
        states = self._cut(layer, False, self.mlp.leave_layer(output))
        self.attended = None
        return states

    def _begin(self, hidden: Tensor) -> None:
        images, rows = hidden.shape[:2]
        if images != len(self.images):
            raise PruningError(
                f"the prompts name {len(self.images)} images but {images} were given"
            )
        self.rows = RowsAtWork(images, rows, hidden.device)
        self.groups = self._grouped(hidden.device)

    def _grouped(self, device: torch.device) -> list[ImageGroup]:
        places: dict[tuple[int, int], list[int]] = {}
        for place, (row, i) in enumerate(self.images):
            if self.plans[row].tower:
                places.setdefault((id(self.plans[row]), i), []).append(place)
        groups = []
        for (_, i), own in places.items():
            row, whole = self.images[own[0]][0], len(own) == len(self.images)
            groups.append(
                ImageGroup(
                    places=tuple(own),
                    at=slice(None) if whole else index_of(own, device),
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
        cuts, merging = [], []
        for group, stage in todo:
            rows = self.rows.most(group.places)
            cut = self._selected(group, stage, hidden, rows)
            if cut is not None:
                cuts.append(ImagesCut(group.places, group.at, rows, cut))
            if cut is not None and cut.merges:
                merging.append((group.at, self._where(stage)))
        if cuts:
            hidden = self.rows.go_on(hidden, cuts)
        self.sound += [merged_numbers(where, hidden[at]) for at, where in merging]
        self.clock.stop("selection")
        return hidden

    def _selected(
        self, group: ImageGroup, stage: TowerStage, hidden: Tensor, rows: int
    ) -> Cut | None:
        valid = self.rows.valid(group.at)[:, :rows]
        view = inside_view(group, stage.reads, hidden, self.attended, valid)
        selection = selected(self._where(stage), stage, view, rows, self.sound)
        group.follow(selection)
        if selection.cut is not None:
            _check(self._where(stage), selection.cut, int(group.segment.has_cls))
        return selection.cut

    def _where(self, stage: TowerStage) -> str:
        return f"{self.method}, stage {stage.name} in layer {stage.layer} of the vision tower"

    # --- after the tower --------------------------------------------------------------------

    def spread(self, projected: Tensor) -> Tensor:
        """Projected rows [images, rows, D] to [images, patches, D], each in its patch's place, as
        the model wants them; places of patches that were dropped are zero.
        """
        if not self.groups:
            return projected
        self._check_layers()
        return self.rows.spread(projected, int(self.adapter.has_cls))

    def _check_layers(self) -> None:
        seen, due = len(self.layer_rows), len(self.adapter.tower_layers)
        if seen != due:
            raise broken(f"{seen} of {due} layers of the vision tower were seen in one forward")

    def rows_of(self, places: Sequence[int]) -> ImageRows:
        """Rows of some images in every layer."""
        return tuple(tuple((a[p], m[p]) for a, m in self.layer_rows) for p in places)

    def piece(
        self, group: Group, run: Run, images: Sequence[Sequence[tuple[int, ...]]]
    ) -> tuple[Piece, list[StageSelection]]:
        """The visual rows that a group's samples go on with before layer 0.

        `images[row]`: of each segment of a sample, its place among the tower's images.
        """
        slots = first_true(run.visual[group.at], run.counts[group.rows[0]])
        start, kept, selections = 0, [], []
        for i, segment in enumerate(group.sizes.segments):
            cut = self._whole_cut(group, [images[row][i][0] for row in group.rows], segment)
            patches = cut.anchors.to(slots.device) - int(segment.has_cls)
            kept.append(gather_rows(slots, start + patches))
            names = "+".join(dict.fromkeys(stage.name for stage in group.plan.tower[i]))
            saw = segment.tokens + int(segment.has_cls)
            selections.append(StageSelection(names, None, group.rows, i, cut, saw))
            start += segment.tokens
        group.enter([own.shape[1] for own in kept], {})
        piece = Piece(group.rows, group.at, torch.cat(kept, 1), None, Positions.CONTIGUOUS)
        return piece, selections

    def _whole_cut(self, group: Group, places: list[int], segment: Segment) -> Cut:
        """What all stages together made of the rows that entered the tower; without CLS."""
        counts = {self.rows.counts[place] for place in places}
        if len(counts) > 1 or any(self.sizes[self.images[p][0]] != group.sizes for p in places):
            raise PruningError("the images were encoded for prompts other than those that follow")
        return self.rows.whole_cut(places, int(segment.has_cls))


def _check(where: str, cut: Cut, has_cls: int) -> None:
    """Raises PruningError for a cut by weights, or that leaves no patch or not CLS first."""
    anchors, counts = cut.anchors, cut.counts
    if cut.weights is not None:
        raise PruningError(f"{where}: inside the tower rows are merged by groups, not by weights")
    fewest, most = anchors.shape[1], anchors.shape[1]
    if anchors.device.type == "cpu":  # elsewhere a look at the values would wait for the device
        if counts is not None:
            fewest, most = int(counts.min()), int(counts.max())
        if has_cls and anchors[:, 0].any():
            raise PruningError(f"{where}: CLS, row 0, has to stay the first")
    if fewest <= has_cls:
        raise PruningError(f"{where}: at least one patch has to stay")
    if most > anchors.shape[1]:
        raise PruningError(f"{where}: {most} rows shall stay, but {anchors.shape[1]} are named")
