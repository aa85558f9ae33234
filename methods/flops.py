"""FLOPs of a plan's selections, counted by running its stages on tensors without data.

The stages run on torch's meta device: shapes are computed, values are not. That a stage runs there
at all shows that it never reads a value back to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import mul

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from methods.encoding import Encoded
from methods.errors import PruningError, told
from methods.groups import Group, group_samples
from methods.plan import DecoderStage, EncoderStage, Plan, Selection, TowerStage
from methods.reads import Read, TextRows, View, what_of
from methods.sizes import ModelShape, Segment, Sizes
from methods.stages import chosen, joined
from methods.tensors import apply_cut, gather_rows
from methods.trace import ImageRows, TowerRows

META = torch.device("meta")


@lru_cache(maxsize=1024)
def selection_flops(
    plan: Plan,
    sizes: Sizes,
    shape: ModelShape,
    text: int,
    tower: ImageRows = (),
    encoded: tuple[Encoded, ...] = (),
) -> int:
    """FLOPs of all stages of a plan for one sample with `text` text tokens.

    2 per multiply-add of matrix products. Attention that a stage reads is counted too; projecting
    what a cut in the tower has merged is the projector's. `tower`: rows of the tower's layers for
    each image, where they were counted; else as many as a cut inside it can leave. `encoded`:
    what the tower made of each segment, where images are of any size. Raises
    PruningError for a stage that needs values, not shapes alone.
    """
    if not plan.stages:
        return 0
    (group,) = group_samples([sizes], {sizes: plan}, [0], META, [""])
    counted: ImageRows = tower or ((),) * len(plan.tower)
    with FlopCounterMode(display=False) as counter:
        reads = sum(
            [
                *(
                    _run_inside(stages, segment, shape, rows)
                    for stages, segment, rows in zip(
                        plan.tower, sizes.segments, counted, strict=bool(plan.tower)
                    )
                ),
                _run_encoder(group, plan.encoder, shape, encoded or _alike(sizes, shape)),
                *(_run_decoder(group, stage, shape, text) for stage in plan.decoder),
            ]
        )
    return counter.get_total_flops() + reads


def _alike(sizes: Sizes, shape: ModelShape) -> tuple[Encoded, ...]:
    """Images of one size; what tower and projector cost is not asked here."""
    return tuple(Encoded(shape.tower_rows, s.has_cls, 0, 0) for s in sizes.segments)


def _run_inside(
    stages: Sequence[TowerStage], segment: Segment, shape: ModelShape, counted: TowerRows
) -> int:
    """Run an image's stages inside the tower, each on the rows that its layer has; FLOPs of what
    they read.
    """
    total, rows = 0, shape.tower_rows
    width, heads = shape.tower_width, shape.tower_heads
    carry: dict[str, Tensor] = {}
    for stage in sorted(stages, key=lambda stage: (stage.layer, not stage.before_mlp)):
        rows = counted[stage.layer][not stage.before_mlp] if counted else rows
        per_head = _empty(1, heads, rows, width // heads)
        shown = {
            Read.HIDDEN: _empty(1, rows, width),
            Read.KEYS: per_head,
            Read.VALUES: per_head,
            Read.CLS_ATTENTION: _empty(1, heads, rows - int(segment.has_cls)),
        }
        if Read.CLS_ATTENTION in stage.reads:
            total += 2 * rows * width * (1 if segment.has_cls else rows)
        view = View(
            count=rows,
            segments=_empty(1, rows, dtype=torch.long),
            seeds=(0,),
            carry={name: value[:, :rows] for name, value in carry.items()},
            reads={read: shown[read] for read in stage.reads},
            valid=_empty(1, rows, dtype=torch.bool),
        )
        where = f"stage {stage.name} in layer {stage.layer} of the vision tower"
        selection = _select(where, stage, view, rows, Read.HIDDEN)
        if selection.cut is not None:
            rows = selection.cut.anchors.shape[1]
            carry = {n: gather_rows(v, selection.cut.anchors) for n, v in carry.items()}
        carry |= selection.visual
    return total


def _run_encoder(
    group: Group, stages: Sequence[EncoderStage], shape: ModelShape, encoded: Sequence[Encoded]
) -> int:
    """Run the tower's stages; FLOPs of what they read."""
    total, i, carries, counts = 0, 0, [], []
    for stage in stages:
        own = slice(i, i + stage.segments)
        segments, i = group.sizes.segments[own], i + stage.segments
        view, rows = _encoder_view(group, stage, segments, encoded[own], shape)
        where = f"stage {stage.name} in the vision tower"
        selection = _select(where, stage, view, rows, Read.FEATURES)
        tokens = sum(segment.tokens for segment in segments)
        counts.append(tokens if selection.cut is None else selection.cut.anchors.shape[1])
        carries.append(selection.visual)
        total += _encoder_reads(stage, segments, encoded[own], shape)
    if stages:
        group.enter(counts, joined(carries, counts))
    return total


def _encoder_view(
    group: Group,
    stage: EncoderStage,
    segments: Sequence[Segment],
    encoded: Sequence[Encoded],
    shape: ModelShape,
) -> tuple[View, int]:
    """The view of a stage for some segments, and how many rows it shows."""
    images = sum(segment.tower_images for segment in segments)
    patches = sum(map(_shown_of, segments))
    # of frames tokens are shown, without CLS rows
    with_cls = segments[0].has_cls and segments[0].kind == "image"
    rows, width = patches + images * with_cls, shape.tower_width
    weights = _empty(1, shape.tower_heads, patches)
    shown = {
        Read.FEATURES: _empty(1, rows, shape.projected_width or width),
        Read.TOWER_KEYS: _empty(1, rows, width),
        Read.CLS_QUERY: _empty(1, sum(_asking(_each(segments, encoded))), width),
        Read.CLS_ATTENTION: weights,
        Read.RECEIVED_ATTENTION: weights,
    }
    view = View(
        count=patches,
        segments=_empty(1, patches, dtype=torch.long),
        seeds=group.seeds,
        questions=group.questions,
        reads={read: shown[what_of(read)] for read in stage.reads},
    )
    return view, rows


def _shown_of(segment: Segment) -> int:
    """Rows without CLS: patches of crops, or the tokens of a video."""
    if segment.kind == "video":
        return segment.tokens
    return segment.tower_images * segment.patches


def _encoder_reads(
    stage: EncoderStage,
    segments: Sequence[Segment],
    encoded: Sequence[Encoded],
    shape: ModelShape,
) -> int:
    """FLOPs of the attention that a stage reads of some segments."""
    images = _each(segments, encoded)
    rows = [image.rows for image in images]
    asking = {Read.CLS_ATTENTION: _asking(images), Read.RECEIVED_ATTENTION: rows}
    read = [asking[what] for what in map(what_of, stage.reads) if what in asking]
    return sum(2 * sum(map(mul, queries, rows)) * shape.tower_width for queries in read)


def _each(segments: Sequence[Segment], encoded: Sequence[Encoded]) -> list[Encoded]:
    """Of each tower image that segments are made of."""
    pairs = zip(segments, encoded, strict=True)
    return [own for segment, own in pairs for _ in range(segment.tower_images)]


def _asking(images: Sequence[Encoded]) -> list[int]:
    """The CLS row of each; without one the mean over all rows stands in for it."""
    return [1 if image.has_cls else image.rows for image in images]


def _run_decoder(group: Group, stage: DecoderStage, shape: ModelShape, text: int) -> int:
    """Run a stage and follow its cut; FLOPs of what it reads."""
    view = _decoder_view(group, stage, shape, text)
    where = f"stage {stage.name} before layer {stage.layer}"
    group.follow(_select(where, stage, view, view.count, Read.HIDDEN))
    queries = shape.attention_heads * shape.head_dim
    length = view.count + text
    total = 0
    if Read.TEXT_ATTENTION in stage.reads:
        total += 2 * (text + 1) * length * queries
    if Read.VISUAL_ATTENTION in stage.reads:
        total += 2 * view.count * length * queries
    if Read.LAST_ATTENTION in stage.reads:
        total += 2 * length * queries
    if Read.NEXT_LAST_ATTENTION in stage.reads:
        keys = shape.key_value_heads * shape.head_dim
        total += 2 * length * (queries + shape.hidden_size * keys)
        total += 2 * shape.hidden_size * queries
    return total


def _select(
    where: str, stage: TowerStage | EncoderStage | DecoderStage, view: View, rows: int, merged: Read
) -> Selection:
    """Run a stage on shapes alone, and the merging of what is `merged` that its cut asks for."""
    try:
        selection = chosen(where, stage, view, rows)
        if selection.cut is not None and selection.cut.merges:
            apply_cut(view[merged], selection.cut)
    except PruningError:
        raise
    except Exception as error:
        raise PruningError(
            f"{where} fails on tensors without data, by which its FLOPs are counted: a selection "
            "reads no value back, lets none decide a shape and makes tensors on its view's device "
            f"({told(error)})"
        ) from error
    return selection


def _decoder_view(group: Group, stage: DecoderStage, shape: ModelShape, text: int) -> View:
    count, heads = group.segments.shape[1], shape.attention_heads
    visual_states = _empty(1, count, shape.hidden_size)
    text_states = _empty(1, text + 1, shape.hidden_size)
    visual_keys = _empty(1, shape.key_value_heads, count, shape.head_dim)
    shown = {
        **dict.fromkeys((Read.HIDDEN, Read.PREVIOUS_HIDDEN, Read.NORMED_HIDDEN), visual_states),
        **dict.fromkeys((Read.TEXT_HIDDEN, Read.NORMED_TEXT), text_states),
        **dict.fromkeys((Read.KEYS, Read.UNROTATED_KEYS), visual_keys),
        Read.TEXT_KEYS: _empty(1, shape.key_value_heads, text + 1, shape.head_dim),
        Read.UNROTATED_QUERY: _empty(1, heads, shape.head_dim),
        Read.VISUAL_ATTENTION: _empty(1, heads, count, count),
        Read.LAST_ATTENTION: _empty(1, heads, count),
        Read.NEXT_LAST_ATTENTION: _empty(1, heads, count),
        Read.TEXT_ATTENTION: _empty(1, heads, text + 1, count),
    }
    rows = TextRows(
        after_image=_empty(1, text + 1, dtype=torch.bool),
        positions=_empty(1, text + 1, dtype=torch.long),
        visual_positions=_empty(1, count, dtype=torch.long),
        inverse_frequencies=_empty(shape.head_dim // 2),
    )
    return View(
        count=count,
        segments=group.segments,
        seeds=group.seeds,
        questions=group.questions,
        carry={**group.visual, **group.text},
        reads={read: shown[read] for read in stage.reads if read in shown},
        text=rows,
    )


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)
