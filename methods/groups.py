"""Samples, and images, that go by one plan: what is true of all rows of a group.

Samples of equal sizes have the same plan, so the same counts at every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count, islice
from typing import TypeVar

import torch
from torch import Tensor

from methods.errors import PruningError
from methods.plan import DecoderStage, Plan, Selection, TowerStage
from methods.sizes import Segment, Sizes
from methods.tensors import gather_rows, index_of

Given = TypeVar("Given")


@dataclass
class Group:
    """Samples of a batch with equal sizes, so with one plan and equal counts at every layer; one
    sample where data decide these.

    `at` is `rows` as an index. `segments` int64 [b, v] is the image of each visual row; `visual`
    and `text` are what stages left over visual and text rows, followed through every cut; `sound`
    names what stages read and ranked, with a bool on the device: whether it was numbers.
    """

    rows: tuple[int, ...]
    at: slice | Tensor
    sizes: Sizes
    plan: Plan
    seeds: tuple[int, ...]
    questions: tuple[str, ...]
    segments: Tensor
    visual: dict[str, Tensor] = field(default_factory=dict)
    text: dict[str, Tensor] = field(default_factory=dict)
    sound: list[tuple[str, Tensor]] = field(default_factory=list)

    def enter(self, counts: Sequence[int], visual: dict[str, Tensor]) -> None:
        """Take over the rows that come out of the vision tower, `counts` of each image."""
        of_image = [self.segments.new_full((len(self.rows), n), i) for i, n in enumerate(counts)]
        self.segments = torch.cat([self.segments[:, :0], *of_image], 1)
        self.visual = visual

    @property
    def kinds_read(self) -> set[str]:
        """Kinds of the segments of which a stage in the tower reads something."""
        kinds, segments = set(), iter(self.sizes.segments)
        for stage in self.plan.encoder:
            own = list(islice(segments, stage.segments))
            kinds |= {segment.kind for segment in own if stage.reads}
        return kinds

    def to(self, device: torch.device) -> None:
        """Follow the model to another device."""
        if isinstance(self.at, Tensor):
            self.at = self.at.to(device)
        self.segments = self.segments.to(device)
        self.visual = {name: value.to(device) for name, value in self.visual.items()}
        self.text = {name: value.to(device) for name, value in self.text.items()}

    def follow(self, selection: Selection) -> None:
        """Take the visual rows through a cut, and over what the stage left."""
        if selection.cut is not None:
            anchors = selection.cut.anchors
            self.segments = gather_rows(self.segments, anchors)
            self.visual = {name: gather_rows(v, anchors) for name, v in self.visual.items()}
        self.visual.update(selection.visual)
        self.text.update(selection.text)


def seeds_of(seeds: Sequence[int] | None, samples: int) -> list[int]:
    """The seed of each sample: of those given as `dealt` has it, or its number. Raises as it."""
    return dealt(range(samples) if seeds is None else seeds, samples, "seeds")


def dealt(given: Sequence[Given], samples: int, what: str) -> list[Given]:
    """Of each sample, each for as many beams or repeated sequences as there are. Raises
    PruningError where they do not fit.
    """
    if not given or samples % len(given):
        raise PruningError(f"{len(given)} {what} were given for {samples} samples")
    return [given[row * len(given) // samples] for row in range(samples)]


def group_samples(
    sizes: Sequence[Sizes],
    plans: Mapping[Sizes, Plan],
    seeds: Sequence[int],
    device: torch.device,
    questions: Sequence[str] = (),
) -> list[Group]:
    """Samples of equal sizes together, in the order of their first; `questions` of all or none.
    Where data decide counts, each for itself.
    """
    groups = []
    for own, rows in _together(sizes, plans):
        whole = len(rows) == len(sizes)
        counts = [segment.tokens for segment in own.segments]
        group = Group(
            rows=rows,
            at=slice(None) if whole else index_of(rows, device),
            sizes=own,
            plan=plans[own],
            seeds=tuple(seeds[row] for row in rows),
            questions=tuple(questions[row] for row in rows if questions),
            segments=torch.empty(len(rows), 0, dtype=torch.long, device=device),
        )
        group.enter(counts, {})
        groups.append(group)
    return groups


def _together(
    sizes: Sequence[Sizes], plans: Mapping[Sizes, Plan]
) -> Iterator[tuple[Sizes, tuple[int, ...]]]:
    for own in dict.fromkeys(sizes):
        rows = tuple(row for row, other in enumerate(sizes) if other == own)
        for together in [(row,) for row in rows] if plans[own].by_data else [rows]:
            yield own, together


def images_of(
    sizes: Sequence[Sizes], recorded: int, kinds: Sequence[str] = ("image",)
) -> list[list[tuple[int, ...]]]:
    """Places among the recorded tower images of each segment of each sample: those of each of
    `kinds` follow one another, and others have none.

    Beams and repeated sequences multiply the samples, with the images recorded once.
    """
    counts = [_tower_images(sizes, kind) for kind in kinds]
    needed = sum(counts)
    if recorded == 0 or needed % recorded:
        raise PruningError(f"the prompts name {needed} images but {recorded} were given")
    repeats, images = needed // recorded, []
    firsts = accumulate((own // repeats for own in counts), initial=0)
    places = {kind: count(first) for kind, first in zip(kinds, firsts, strict=False)}
    for own in sizes[::repeats]:
        of_sample = [
            tuple(islice(places.get(segment.kind, ()), segment.tower_images))
            for segment in own.segments
        ]
        images += [of_sample] * repeats
    return images


def _tower_images(sizes: Sequence[Sizes], kind: str) -> int:
    """How many of a kind all samples have."""
    return sum(s.tower_images for own in sizes for s in own.segments if s.kind == kind)


def stages_by_layer(
    groups: Sequence[Group], layers: int, method: str
) -> dict[tuple[int, bool], list[tuple[Group, DecoderStage]]]:
    """The stages by decoder layer and whether they lie before its MLP, with the groups that they
    are for.

    Raises PruningError for a layer that is none of the model's `layers`.
    """
    found: dict[tuple[int, bool], list[tuple[Group, DecoderStage]]] = {}
    for group in groups:
        for stage in group.plan.decoder:
            if not 0 <= stage.layer < layers:
                raise PruningError(
                    f"{method}, stage {stage.name}: the model has no layer {stage.layer}"
                )
            found.setdefault((stage.layer, stage.before_mlp), []).append((group, stage))
    return found


@dataclass
class ImageGroup:
    """Images of a batch with the same stages; `at` is `places` as an index.

    `stages` by layer and whether they lie before its MLP; `carry` is what stages left over rows.
    """

    places: tuple[int, ...]
    at: slice | Tensor
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
