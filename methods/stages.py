"""Runs one stage for the samples of a group: view, selection, check, piece of the next sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from methods.errors import PruningError, place, told
from methods.groups import Group
from methods.merged_tower import MergedRecording
from methods.plan import Cut, DecoderStage, EncoderStage, Positions, Selection, TowerStage
from methods.reads import AnyRead, Read, View
from methods.sequence import Piece, Run
from methods.sizes import Segment
from methods.tensors import apply_cut, first_true, gather_rows, watching_ranks
from methods.tower_views import Recording, tower_view
from methods.trace import StageSelection
from methods.views import Shown, decoder_view


def run_decoder_stage(
    method: str,
    group: Group,
    stage: DecoderStage,
    seen: Shown,
) -> tuple[Piece | None, list[StageSelection]]:
    """The cut of a group by a stage, None if it kept every row; the carry follows. Waits for the
    device where data decide how many rows stay.
    """
    view, slots = decoder_view(group, stage.reads, seen)
    where = f"{method}, stage {stage.name} {stage.place}"
    selection = selected(where, stage, view, view.count, group.sound)
    if selection.cut is not None and selection.cut.counts is not None:
        count = int(selection.cut.counts)
        if not 1 <= count <= selection.cut.anchors.shape[1]:
            raise PruningError(f"{where}: 1 to {view.count} rows can be kept, not {count}")
        selection = first_rows(selection, count, view.count)
    group.follow(selection)
    cut = selection.cut
    if cut is None:
        return None, []
    states = None
    if cut.merges:
        states = apply_cut(view[Read.HIDDEN], cut)
        group.sound.append(merged_numbers(where, states))
    slots = gather_rows(slots, cut.anchors)
    return (
        Piece(group.rows, group.at, slots, states, stage.positions),
        [StageSelection(stage.name, stage.first, group.rows, None, cut)],
    )


def first_rows(selection: Selection, count: int, rows: int) -> Selection:
    """A selection of `rows` rows whose cut has only so many output rows; without a cut where it is
    as many.
    """
    visual = {name: left[:, :count] for name, left in selection.visual.items()}
    cut = None if selection.cut is None or count == rows else selection.cut.to_first(count)
    return replace(selection, cut=cut, visual=visual)


def run_encoder_stages(
    method: str,
    group: Group,
    run: Run,
    tower: Recording,
    images: Sequence[Sequence[tuple[int, ...]]],
    project: Callable[[Tensor], Tensor] | None,
) -> tuple[Piece | None, list[StageSelection]]:
    """The cuts between vision tower and projector, image by image of the group's samples.

    `images[row]`: places in `tower` of each segment of a sample. Rows that a cut merges are
    projected again; rows that it keeps have been projected already. None where no stage cuts.
    """
    slots = first_true(run.visual[group.at], run.counts[group.rows[0]])
    start, i, pieces, states, carries, selections = 0, 0, [], [], [], []
    for stage in group.plan.encoder:
        segments = group.sizes.segments[i : i + stage.segments]
        seen = [p for row in group.rows for own in images[row][i : i + stage.segments] for p in own]
        tokens = sum(segment.tokens for segment in segments)
        selection, rows, merged = Selection(), tokens, None
        if seen:
            shown = tower.images(seen)
            selection, rows, merged = _of_image(method, group, stage, segments, shown, project)
        patches = torch.arange(tokens, device=slots.device).expand(len(slots), -1)
        if selection.cut is not None:
            patches = _places(segments, selection.cut)
            selections.append(
                StageSelection(stage.name, None, group.rows, i, selection.cut, saw=rows)
            )
        if merged is not None:
            states.append(merged)
        pieces.append(gather_rows(slots, start + patches))
        carries.append(selection.visual)
        start, i = start + tokens, i + stage.segments
    counts = [piece.shape[1] for piece in pieces]
    group.enter(counts, joined(carries, counts))
    if not selections:
        return None, []
    made = torch.cat(states, 1) if states else None
    piece = Piece(group.rows, group.at, torch.cat(pieces, 1), made, Positions.CONTIGUOUS)
    return piece, selections


def joined(carries: Sequence[Mapping[str, Tensor]], counts: Sequence[int]) -> dict[str, Tensor]:
    """What the stages of segments left over their rows, of which each has so many; 0 where one left
    nothing.
    """
    like = {name: left for carry in carries for name, left in carry.items()}
    joined = {}
    for name, left in like.items():
        empty = (left.new_zeros(len(left), count, *left.shape[2:]) for count in counts)
        own = [carry.get(name, none) for carry, none in zip(carries, empty, strict=True)]
        joined[name] = torch.cat(own, 1)
    return joined


def _of_image(
    method: str,
    group: Group,
    stage: EncoderStage,
    segments: Sequence[Segment],
    shown: Recording,
    project: Callable[[Tensor], Tensor] | None,
) -> tuple[Selection, int, Tensor | None]:
    """What the stage of some segments of a group selects, of how many rows, and the rows that it
    merged, projected.
    """
    view, rows = tower_view(shown, segments, stage.reads, group)
    where = f"{method}, stage {stage.name} in the vision tower"
    selection = selected(where, stage, view, rows, group.sound)
    # of crops not every row has been given to the language model's sequence
    remade = any(segment.crops for segment in group.sizes.segments)
    if selection.cut is None or not (selection.cut.merges or remade):
        return selection, rows, None
    if project is None or isinstance(shown, MergedRecording):
        raise PruningError(f"{where}: what merges patches itself has no features to be merged")
    merged = apply_cut(shown.of_segments(segments), selection.cut)
    group.sound.append(merged_numbers(where, merged))
    return selection, rows, project(merged)


def _places(segments: Sequence[Segment], cut: Cut) -> Tensor:
    """Where the rows that come out of a cut go among the segments' tokens: int64 [b, out].

    Those of crops follow one another from the first on: not each has a token of its own.
    """
    if any(segment.crops for segment in segments):
        return torch.zeros_like(cut.anchors)
    return (cut.anchors - int(segments[0].has_cls)).clamp(min=0)


Stage = DecoderStage | EncoderStage | TowerStage


def selected(
    where: str, stage: Stage, view: View, rows: int, sound: list[tuple[str, Tensor]]
) -> Selection:
    """As `chosen`; what the stage read and ranked is noted in `sound`, as in `Group`."""
    # a caller's autocast would turn the selection's float32 into something else
    device = view.segments.device.type
    with torch.autocast(device, enabled=False), watching_ranks() as ranked:
        selection = chosen(where, stage, view, rows)
    sound += _numbers(where, view, ranked)
    return selection


def chosen(where: str, stage: Stage, view: View, rows: int) -> Selection:
    """What the stage selects of `rows` rows; an exception in it is noted to come from `where`.

    Raises PruningError for sys.exit, which would end the caller, and for a selection that is none
    of the view's rows.
    """
    try:
        selection = stage.select(view)
    except SystemExit as error:
        raise PruningError(f"{where} raises {told(error)}") from error
    except Exception as error:
        error.add_note(f"in {where}{place(error)}")
        raise
    if not isinstance(selection, Selection):
        raise PruningError(f"{where} returns a Selection, not {repr(selection)[:60]}")
    if not isinstance(selection.cut, Cut | None):
        raise PruningError(f"{where}: a cut is a Cut or None, not {repr(selection.cut)[:60]}")
    _check_devices(where, selection, view.segments.device)
    if selection.cut is not None:
        if selection.cut.counts is not None and not _may_count(stage):
            raise PruningError(
                f"{where}: counts by data are for stages inside the vision tower, and by_data"
            )
        _check(where, selection.cut, len(view.segments), rows, stage.reads)
    return selection


def _may_count(stage: Stage) -> bool:
    return isinstance(stage, TowerStage) or (isinstance(stage, DecoderStage) and stage.by_data)


def _check_devices(where: str, selection: Selection, device: torch.device) -> None:
    tensors = {**selection.visual, **selection.text}
    if selection.cut is not None:
        tensors |= {name: t for name, t in vars(selection.cut).items() if t is not None}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise PruningError(f"{where}: {name} is a tensor, not {repr(tensor)[:60]}")
        if tensor.device != device:
            raise PruningError(
                f"{where}: {name} is on {tensor.device} and the view on {device}; "
                "make tensors with device=view.segments.device"
            )


def merged_numbers(where: str, states: Tensor) -> tuple[str, Tensor]:
    """Whether the rows that a cut made are numbers, as `_numbers` says it.

    They are summed in float32, but are kept in the model's dtype: a row plus the mean of its like
    is twice as large as any that the unpruned model has.
    """
    most = torch.finfo(states.dtype).max
    what = f"the rows it merged, up to {most:g} in {states.dtype}"
    return f"{where}: {what}", states.isfinite().all()


def _numbers(where: str, view: View, ranked: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    """What the stage read and ranked, and whether it was numbers: bool on the device, not read.

    A rank may be infinite, which shuts a row out.
    """
    shown = [
        (f"{where}: {read} ({tensor.dtype})", tensor.isfinite().all())
        for read, tensor in view.reads.items()
        if tensor.is_floating_point()
    ]
    scores = [(f"{where}: its scores", ~tensor.isnan().any()) for tensor in ranked]
    return shown + scores


def _check(where: str, cut: Cut, batch: int, rows: int, reads: Sequence[AnyRead]) -> None:
    """Raises PruningError for a cut that is none of `rows` rows of `batch` samples."""
    anchors, groups = cut.anchors, cut.groups
    if anchors.dim() != 2 or len(anchors) != batch or anchors.dtype != torch.long:
        found = f"{anchors.dtype} {list(anchors.shape)}"
        raise PruningError(f"{where}: anchors are int64 [{batch}, rows kept], not {found}")
    if not 1 <= anchors.shape[1] <= rows:
        raise PruningError(f"{where}: 1 to {rows} rows can be kept, not {anchors.shape[1]}")
    if groups is not None:
        whole = (batch, rows)
        if groups.shape != whole or groups.dtype != torch.long or cut.add_anchor is None:
            raise PruningError(f"{where}: groups are int64 {list(whole)}, with add_anchor")
    if cut.counts is not None and (cut.counts.shape != (batch,) or cut.counts.dtype != torch.long):
        found = f"{cut.counts.dtype} {list(cut.counts.shape)}"
        raise PruningError(f"{where}: counts are int64 [{batch}], not {found}")
    if cut.weights is not None:
        wanted = [batch, anchors.shape[1], rows]
        if list(cut.weights.shape) != wanted or cut.add_anchor is None or groups is not None:
            raise PruningError(f"{where}: weights are {wanted}, with add_anchor and without groups")
    if cut.merges and cut.add_anchor is not None:
        _check_merging(where, cut, cut.add_anchor, reads)
    if anchors.device.type == "cpu":  # elsewhere a look at the values would wait for the device
        _check_values(where, cut, rows)


def _check_merging(where: str, cut: Cut, add_anchor: Tensor, reads: Sequence[AnyRead]) -> None:
    if add_anchor.shape != cut.anchors.shape or add_anchor.dtype != torch.bool:
        raise PruningError(f"{where}: add_anchor is bool {list(cut.anchors.shape)}, as anchors are")
    if not {Read.HIDDEN, Read.FEATURES} & set(reads):
        raise PruningError(f"{where}: a stage that merges rows has to read them")


def _check_values(where: str, cut: Cut, rows: int) -> None:
    anchors, groups = cut.anchors, cut.groups
    if anchors.min() < 0 or anchors.max() >= rows:
        raise PruningError(f"{where}: an index lies outside 0 to {rows - 1}")
    if groups is not None and (groups.min() < -1 or groups.max() >= anchors.shape[1]):
        raise PruningError(f"{where}: a group lies outside -1 to {anchors.shape[1] - 1}")
    ordered = anchors.sort(1).values
    if not cut.merges and (ordered[:, 1:] == ordered[:, :-1]).any():
        raise PruningError(f"{where}: a row is kept twice")
