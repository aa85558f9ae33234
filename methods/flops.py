"""FLOPs of a plan's selections, counted by running its stages on tensors without data.

The stages run on torch's meta device: shapes are computed, values are not. That a stage runs there
at all shows that it never reads a value back to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from methods.encoder_shapes import META, alike, empty, encoder_reads, encoder_view
from methods.encoding import Encoded
from methods.errors import PruningError, told
from methods.groups import Group, group_samples
from methods.plan import DecoderStage, EncoderStage, Plan, Selection, TowerStage
from methods.planning import due
from methods.reads import Read, TextRows, View
from methods.sizes import ModelShape, Segment, Sizes
from methods.stages import Stage, chosen, first_rows, joined
from methods.tensors import apply_cut, gather_rows
from methods.trace import ImageRows, TowerRows


@lru_cache(maxsize=1024)
def selection_flops(
    plan: Plan,
    sizes: Sizes,
    shape: ModelShape,
    text: int,
    tower: ImageRows = (),
    encoded: tuple[Encoded, ...] = (),
    entering: tuple[int, ...] = (),
) -> int:
    """FLOPs of all stages of a plan for one sample with `text` text tokens.

    2 per multiply-add of matrix products. Attention that a stage reads is counted too; projecting
    what a cut in the tower has merged is the projector's. `tower`: rows of the tower's layers for
    each image, where they were counted; else as many as a cut inside it can leave. `encoded`:
    what the tower made of each segment, where images are of any size. `entering`: the visual
    tokens of each decoder layer, where data decide them; else as planned. Raises
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
                _run_encoder(group, plan.encoder, shape, encoded or alike(sizes, shape)),
                *(
                    _run_decoder(group, stage, shape, text, entering or plan.entering)
                    for stage in plan.decoder
                ),
            ]
        )
    return counter.get_total_flops() + reads


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
        per_head = empty(1, heads, rows, width // heads)
        shown = {
            Read.HIDDEN: empty(1, rows, width),
            Read.KEYS: per_head,
            Read.VALUES: per_head,
            Read.CLS_ATTENTION: empty(1, heads, rows - int(segment.has_cls)),
        }
        if Read.CLS_ATTENTION in stage.reads:
            total += 2 * rows * width * (1 if segment.has_cls else rows)
        view = View(
            count=rows,
            segments=empty(1, rows, dtype=torch.long),
            seeds=(0,),
            carry={name: value[:, :rows] for name, value in carry.items()},
            reads={read: shown[read] for read in stage.reads},
            valid=empty(1, rows, dtype=torch.bool),
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
        view, rows = encoder_view(group, stage, segments, encoded[own], shape)
        where = f"stage {stage.name} in the vision tower"
        selection = _select(where, stage, view, rows, Read.FEATURES)
        tokens = sum(segment.tokens for segment in segments)
        counts.append(tokens if selection.cut is None else selection.cut.anchors.shape[1])
        carries.append(selection.visual)
        total += encoder_reads(stage, segments, encoded[own], shape)
    if stages:
        group.enter(counts, joined(carries, counts))
    return total


def _run_decoder(
    group: Group, stage: DecoderStage, shape: ModelShape, text: int, entering: tuple[int, ...]
) -> int:
    """Run a stage and follow its cut, where it is asked for one; FLOPs of what it reads."""
    view = replace(_decoder_view(group, stage, shape, text), entered=entering[: stage.first])
    if stage.by_data and due(sum(group.plan.entering), view.entered, view.count, len(entering)) < 1:
        return 0
    left = entering[stage.first] if stage.by_data else None
    where = f"stage {stage.name} {stage.place}"
    group.follow(_select(where, stage, view, view.count, Read.HIDDEN, left))
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
    where: str,
    stage: Stage,
    view: View,
    rows: int,
    merged: Read,
    left: int | None = None,
) -> Selection:
    """Run a stage on shapes alone, and the merging of what is `merged` that its cut asks for; with
    so many rows `left` where data decide it.
    """
    try:
        selection = chosen(where, stage, view, rows)
        if left is not None:
            selection = first_rows(selection, left, rows)
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
    visual_states = empty(1, count, shape.hidden_size)
    text_states = empty(1, text + 1, shape.hidden_size)
    visual_keys = empty(1, shape.key_value_heads, count, shape.head_dim)
    shown = {
        **dict.fromkeys((Read.HIDDEN, Read.PREVIOUS_HIDDEN, Read.NORMED_HIDDEN), visual_states),
        **dict.fromkeys((Read.TEXT_HIDDEN, Read.NORMED_TEXT), text_states),
        **dict.fromkeys((Read.KEYS, Read.UNROTATED_KEYS), visual_keys),
        Read.TEXT_KEYS: empty(1, shape.key_value_heads, text + 1, shape.head_dim),
        Read.UNROTATED_QUERY: empty(1, heads, shape.head_dim),
        Read.VISUAL_ATTENTION: empty(1, heads, count, count),
        Read.LAST_ATTENTION: empty(1, heads, count),
        Read.NEXT_LAST_ATTENTION: empty(1, heads, count),
        Read.TEXT_ATTENTION: empty(1, heads, text + 1, count),
    }
    rows = TextRows(
        after_image=empty(1, text + 1, dtype=torch.bool),
        positions=empty(1, text + 1, dtype=torch.long),
        visual_positions=empty(1, count, dtype=torch.long),
        inverse_frequencies=empty(shape.head_dim // 2),
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
