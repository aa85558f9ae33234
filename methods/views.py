"""Fills the views of stages: gathers what a stage reads for the samples that it works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from methods.attention import QueriesKeys
from methods.errors import PruningError
from methods.mechanism import broken
from methods.plan import Plan, Selection
from methods.reads import OF_TOWER, AnyRead, OfLayer, Read, TextRows, View
from methods.sequence import Run
from methods.sizes import Segment, Sizes
from methods.tensors import first_true, gather_rows, index_of, last_true

Shows = TypeVar("Shows", Tensor, QueriesKeys)
_OF_TEXT = {
    Read.TEXT_HIDDEN,
    Read.NORMED_TEXT,
    Read.TEXT_KEYS,
    Read.TEXT_ATTENTION,
    Read.ROTARY,
}


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

    `features` [i, rows, D] of layer `used` of `layers`; `attended`: keys of the layers that are
    read by their numbers, and their queries: of the CLS row where that is all that is read, else of
    all rows. Without a CLS row the mean attention of all rows stands in for its own.
    """

    features: Tensor
    attended: Mapping[int, QueriesKeys]
    layers: int
    used: int

    def images(self, places: Sequence[int]) -> TowerRecording:
        """Those of some images."""
        if list(places) == list(range(len(self.features))):
            return self
        index = index_of(places, self.features.device)
        return self.map(lambda tensor: tensor[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> TowerRecording:
        """The same with every tensor changed."""
        attended = {
            layer: QueriesKeys(change(own.queries), change(own.keys), own.scaling)
            for layer, own in self.attended.items()
        }
        return TowerRecording(change(self.features), attended, self.layers, self.used)

    def shows(self, reads: Iterable[AnyRead]) -> bool:
        """Whether all that is read was recorded."""
        for read, layer in map(self.place, reads):
            own = self.attended.get(layer)
            if read is Read.FEATURES:
                continue
            if own is None:
                return False
            if read is Read.RECEIVED_ATTENTION and own.queries.shape[-2] < own.keys.shape[-2]:
                return False
        return True

    def place(self, read: AnyRead) -> tuple[Read, int]:
        """What is read, and of which layer."""
        return place_of(read, self.layers, self.used)


def place_of(read: AnyRead, layers: int, used: int) -> tuple[Read, int]:
    """What is read in a tower, and of which of its `layers`, where `used` is the one in use.

    Raises PruningError for a layer that is not there, and for what a tower does not show.
    """
    what, layer = (read.read, read.layer) if isinstance(read, OfLayer) else (read, used)
    layer = layer if isinstance(layer, int) else layer(layers)
    if what not in OF_TOWER:
        raise PruningError(f"the vision tower does not show {what}; it has {', '.join(OF_TOWER)}")
    if not 0 <= layer < layers:
        raise PruningError(f"the vision tower has layers 0 to {layers - 1}, and no {layer}")
    return what, layer


@dataclass(frozen=True)
class Shown:
    """What the decoder shows before a layer.

    `hidden` [B, L, D] enter it; `entered` [B, L, D] entered the layer that has just run, `attended`
    are its queries and keys: both only where a stage reads them. `about_to` computes those of the
    next layer, with the query of the last token only; `unrotated` takes RoPE off states
    [b, H, r, d] of sequence places [b, r] of a group; `norm` is the model's last.
    """

    hidden: Tensor
    entered: Tensor | None
    attended: QueriesKeys | None
    about_to: Callable[[], QueriesKeys]
    unrotated: Callable[[Group, Tensor, Tensor], Tensor]
    norm: Callable[[Tensor], Tensor]
    inverse_frequencies: Tensor


def decoder_view(group: Group, run: Run, reads: Sequence[Read], seen: Shown) -> tuple[View, Tensor]:
    """The view of a decoder stage, and the places int64 [b, v] of its rows in the sequence."""
    count = run.counts[group.rows[0]]
    slots = first_true(run.visual[group.at], count)
    last = last_true(run.valid[group.at], 1)
    shown: dict[AnyRead, Tensor] = {}
    if Read.HIDDEN in reads:
        shown[Read.HIDDEN] = gather_rows(seen.hidden[group.at], slots)
    if Read.PREVIOUS_HIDDEN in reads:
        shown[Read.PREVIOUS_HIDDEN] = gather_rows(_present(seen.entered)[group.at], slots)
    if Read.NORMED_HIDDEN in reads:
        shown[Read.NORMED_HIDDEN] = seen.norm(gather_rows(seen.hidden[group.at], slots)).float()
    if Read.KEYS in reads:
        shown[Read.KEYS] = _keys(group, seen, slots).float()
    if Read.UNROTATED_KEYS in reads:
        shown[Read.UNROTATED_KEYS] = seen.unrotated(group, _keys(group, seen, slots), slots)
    if Read.UNROTATED_QUERY in reads:
        query = _rows(_present(seen.attended).queries[group.at], last)
        shown[Read.UNROTATED_QUERY] = seen.unrotated(group, query, last)[:, :, 0]
    if Read.LAST_ATTENTION in reads:
        weights = _attention(group, run, _present(seen.attended), last, last, slots)
        shown[Read.LAST_ATTENTION] = weights[:, :, 0]
    if Read.VISUAL_ATTENTION in reads:
        weights = _attention(group, run, _present(seen.attended), slots, slots, slots)
        shown[Read.VISUAL_ATTENTION] = weights
    if Read.NEXT_LAST_ATTENTION in reads:
        weights = _attention(group, run, seen.about_to(), torch.zeros_like(last), last, slots)
        shown[Read.NEXT_LAST_ATTENTION] = weights[:, :, 0]
    text = _text(group, run, slots, reads, seen, shown)
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
    seen: Shown,
    shown: dict[AnyRead, Tensor],
) -> TextRows | None:
    """Fill what is read of text rows; None where nothing is."""
    if not _OF_TEXT & set(reads):
        return None
    is_text = (run.valid & ~run.visual)[group.at]
    longest = max(run.lengths[row] - run.counts[row] for row in group.rows)
    text = last_true(is_text, longest)
    places = torch.cat([text, last_true(run.valid[group.at], 1)], 1)
    if Read.TEXT_HIDDEN in reads:
        shown[Read.TEXT_HIDDEN] = gather_rows(seen.hidden[group.at], places)
    if Read.NORMED_TEXT in reads:
        shown[Read.NORMED_TEXT] = seen.norm(gather_rows(seen.hidden[group.at], places)).float()
    if Read.TEXT_KEYS in reads:
        shown[Read.TEXT_KEYS] = _keys(group, seen, places).float()
    if Read.TEXT_ATTENTION in reads:
        weights = _attention(group, run, _present(seen.attended), places, places, slots)
        shown[Read.TEXT_ATTENTION] = weights
    after = is_text.gather(1, text) & (text > slots.amax(1, keepdim=True))
    positions = run.positions[group.at]
    return TextRows(
        after_image=torch.cat([after, torch.zeros_like(after[:, :1])], 1),
        positions=positions.gather(1, places),
        visual_positions=positions.gather(1, slots),
        inverse_frequencies=seen.inverse_frequencies,
    )


def _keys(group: Group, seen: Shown, places: Tensor) -> Tensor:
    """[b, H_kv, r, d]: keys of sequence places [b, r] in the layer that has just run."""
    return _rows(_present(seen.attended).keys[group.at], places)


def _rows(states: Tensor, places: Tensor) -> Tensor:
    """Those of places [b, r] of states [b, H, L, d]: [b, H, r, d]."""
    return gather_rows(states.transpose(1, 2), places).transpose(1, 2)


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


def _present(shown: Shows | None) -> Shows:
    if shown is None:
        raise broken("the layer before a stage ran without showing what the stage reads")
    return shown


def tower_view(
    recording: TowerRecording, segment: Segment, reads: Sequence[AnyRead], seeds: tuple[int, ...]
) -> View:
    """The view of an encoder stage for images of one size."""
    images, rows, _ = recording.features.shape
    patches = rows - int(segment.has_cls)
    return View(
        count=patches,
        segments=torch.zeros(images, patches, dtype=torch.long, device=recording.features.device),
        seeds=seeds,
        reads={read: _of_tower(recording, read, segment.has_cls) for read in reads},
    )


def _of_tower(recording: TowerRecording, read: AnyRead, has_cls: bool) -> Tensor:
    """What `read` shows of the tower."""
    what, layer = recording.place(read)
    if what is Read.FEATURES:
        return recording.features
    if layer not in recording.attended:
        raise broken(f"the vision tower's layer {layer} did not show its queries and keys")
    attended = recording.attended[layer]
    if what is Read.TOWER_KEYS:
        return attended.keys.transpose(1, 2).flatten(2)
    queries = attended.queries.shape[2]
    if has_cls and what is not Read.RECEIVED_ATTENTION:
        queries = 1
    if what is Read.CLS_QUERY:
        return attended.queries[:, :, :queries].transpose(1, 2).flatten(2)
    rows = torch.arange(queries, device=attended.keys.device)
    weights = attended.attention(rows.expand(len(attended.keys), -1), None).mean(2)
    return weights[..., int(has_cls) :]
