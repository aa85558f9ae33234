"""Fills the views of stages: gathers what a stage reads for the samples that it works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from methods.attention import QueriesKeys
from methods.interface import (
    Plan,
    PruningError,
    Read,
    Segment,
    Selection,
    Sizes,
    TextRows,
    View,
)
from methods.mechanism import broken
from methods.sequence import Run
from methods.tensors import first_true, gather_rows, index_of, last_true


@dataclass
class Group:
    """Samples of a batch with equal sizes, so with one plan and equal counts at every layer.

    `at` is `rows` as an index. `segments` int64 [b, v] is the image of each visual row; `visual`
    and `text` are what stages left over visual and text rows, followed through every cut; `sound`
    names what stages read and ranked, with a bool on the device: whether it was numbers.
    """

    rows: tuple[int, ...]
    at: slice | Tensor
    sizes: Sizes
    plan: Plan
    seeds: tuple[int, ...]
    segments: Tensor
    visual: dict[str, Tensor] = field(default_factory=dict)
    text: dict[str, Tensor] = field(default_factory=dict)
    sound: list[tuple[str, Tensor]] = field(default_factory=list)

    def enter(self, counts: Sequence[int], visual: dict[str, Tensor]) -> None:
        """Take over the rows that come out of the vision tower, `counts` of each image."""
        of_image = [self.segments.new_full((len(self.rows), n), i) for i, n in enumerate(counts)]
        self.segments = torch.cat([self.segments[:, :0], *of_image], 1)
        self.visual = visual

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
    """The seed of each sample: those given, each for as many beams or repeated sequences as there
    are, or its number. Raises PruningError where they do not fit.
    """
    given = list(range(samples)) if seeds is None else list(seeds)
    if samples % len(given):
        raise PruningError(f"{len(given)} seeds were given for {samples} samples")
    return [given[row * len(given) // samples] for row in range(samples)]


def group_samples(
    sizes: Sequence[Sizes], plans: Mapping[Sizes, Plan], seeds: Sequence[int], device: torch.device
) -> list[Group]:
    """Samples of equal sizes together, in the order of their first."""
    groups = []
    for own in dict.fromkeys(sizes):
        rows = tuple(row for row, other in enumerate(sizes) if other == own)
        whole = len(rows) == len(sizes)
        counts = [segment.tokens for segment in own.segments]
        group = Group(
            rows=rows,
            at=slice(None) if whole else index_of(rows, device),
            sizes=own,
            plan=plans[own],
            seeds=tuple(seeds[row] for row in rows),
            segments=torch.empty(len(rows), 0, dtype=torch.long, device=device),
        )
        group.enter(counts, {})
        groups.append(group)
    return groups


@dataclass(frozen=True)
class TowerRecording:
    """What the vision tower showed of each image: first dimension i, images in prompt order.

    `features` [i, rows, D] of the layer that is used; `attended` its keys, and the queries of the
    CLS row, or of all rows where there is none: their mean attention stands in for it.
    """

    features: Tensor
    attended: QueriesKeys

    def images(self, places: Sequence[int]) -> TowerRecording:
        """Those of some images."""
        if list(places) == list(range(len(self.features))):
            return self
        index = index_of(places, self.features.device)
        q, k = self.attended.queries[index], self.attended.keys[index]
        return TowerRecording(self.features[index], QueriesKeys(q, k, self.attended.scaling))


def decoder_view(
    group: Group,
    run: Run,
    reads: Sequence[Read],
    hidden: Tensor,
    attended: QueriesKeys | None,
    about_to: Callable[[], QueriesKeys],
    inverse_frequencies: Tensor,
) -> tuple[View, Tensor]:
    """The view of a decoder stage, and the places int64 [b, v] of its rows in the sequence.

    `attended`: of the layer that has just run; `about_to` computes that of the next one, with the
    query of the last token only.
    """
    count = run.counts[group.rows[0]]
    slots = first_true(run.visual[group.at], count)
    shown: dict[Read, Tensor] = {}
    if Read.HIDDEN in reads:
        shown[Read.HIDDEN] = gather_rows(hidden[group.at], slots)
    if Read.KEYS in reads:
        keys = _present(attended).keys[group.at].transpose(1, 2)
        shown[Read.KEYS] = gather_rows(keys, slots).transpose(1, 2).float()
    if Read.LAST_ATTENTION in reads:
        last = last_true(run.valid[group.at], 1)
        weights = _attention(group, run, _present(attended), last, last, slots)
        shown[Read.LAST_ATTENTION] = weights[:, :, 0]
    if Read.NEXT_LAST_ATTENTION in reads:
        last = last_true(run.valid[group.at], 1)
        weights = _attention(group, run, about_to(), torch.zeros_like(last), last, slots)
        shown[Read.NEXT_LAST_ATTENTION] = weights[:, :, 0]
    text = _text(group, run, slots, reads, hidden, attended, inverse_frequencies, shown)
    view = View(
        count=count,
        segments=group.segments,
        seeds=group.seeds,
        carry={**group.visual, **group.text},
        reads=shown,
        text=text,
    )
    return view, slots


def _text(
    group: Group,
    run: Run,
    slots: Tensor,
    reads: Sequence[Read],
    hidden: Tensor,
    attended: QueriesKeys | None,
    inverse_frequencies: Tensor,
    shown: dict[Read, Tensor],
) -> TextRows | None:
    """Fill what is read of text rows; None where nothing is."""
    if not {Read.TEXT_HIDDEN, Read.TEXT_ATTENTION, Read.ROTARY} & set(reads):
        return None
    is_text = (run.valid & ~run.visual)[group.at]
    longest = max(run.lengths[row] - run.counts[row] for row in group.rows)
    text = last_true(is_text, longest)
    places = torch.cat([text, last_true(run.valid[group.at], 1)], 1)
    if Read.TEXT_HIDDEN in reads:
        shown[Read.TEXT_HIDDEN] = gather_rows(hidden[group.at], places)
    if Read.TEXT_ATTENTION in reads:
        weights = _attention(group, run, _present(attended), places, places, slots)
        shown[Read.TEXT_ATTENTION] = weights
    after = is_text.gather(1, text) & (text > slots.amax(1, keepdim=True))
    positions = run.positions[group.at]
    return TextRows(
        after_image=torch.cat([after, torch.zeros_like(after[:, :1])], 1),
        positions=positions.gather(1, places),
        visual_positions=positions.gather(1, slots),
        inverse_frequencies=inverse_frequencies,
    )


def _attention(
    group: Group, run: Run, attended: QueriesKeys, queries: Tensor, rows: Tensor, slots: Tensor
) -> Tensor:
    """float32 [b, H, r, v]: causal attention of sequence rows [b, r] to the visual tokens.

    `queries` [b, r]: where the rows' queries stand among those of `attended`.
    """
    own = QueriesKeys(attended.queries[group.at], attended.keys[group.at], attended.scaling)
    place = torch.arange(run.valid.shape[1], device=rows.device)
    allowed = run.valid[group.at][:, None] & (place <= rows[..., None])
    weights = own.attention(queries, allowed)
    index = slots[:, None, None].expand(-1, weights.shape[1], weights.shape[2], -1)
    return weights.gather(3, index)


def _present(attended: QueriesKeys | None) -> QueriesKeys:
    if attended is None:
        raise broken("the layer before a stage ran without showing its queries and keys")
    return attended


def tower_view(
    recording: TowerRecording, segment: Segment, reads: Sequence[Read], seeds: tuple[int, ...]
) -> View:
    """The view of an encoder stage for images of one size."""
    shown: dict[Read, Tensor] = {}
    images, device = len(recording.features), recording.features.device
    if Read.FEATURES in reads:
        shown[Read.FEATURES] = recording.features
    if Read.TOWER_KEYS in reads:
        shown[Read.TOWER_KEYS] = recording.attended.keys.transpose(1, 2).flatten(2)
    if Read.CLS_ATTENTION in reads:
        queries = recording.attended.queries.shape[2]
        rows = torch.arange(queries, device=device).expand(images, -1)
        weights = recording.attended.attention(rows, None).mean(2)
        shown[Read.CLS_ATTENTION] = weights[..., int(segment.has_cls) :]
    patches = recording.features.shape[1] - int(segment.has_cls)
    segments = torch.zeros(images, patches, dtype=torch.long, device=device)
    return View(count=patches, segments=segments, seeds=seeds, reads=shown)
