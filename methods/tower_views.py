"""Fills the views of stages in the vision tower: after it, and between its layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.attention import QueriesKeys
from methods.groups import Group, ImageGroup
from methods.mechanism import broken
from methods.merged_tower import MergedRecording
from methods.reads import BY_PATCH, AnyRead, Read, View, what_of
from methods.sizes import Segment
from methods.tower_recording import TowerRecording

Recording = TowerRecording | MergedRecording


def tower_view(
    recording: Recording, segments: Sequence[Segment], reads: Sequence[AnyRead], group: Group
) -> tuple[View, int]:
    """The view of an encoder stage for images with these segments, and how many rows it shows; rows
    of crops follow one another.
    """
    if isinstance(recording, MergedRecording):
        (segment,) = segments
        view = View(
            count=segment.tokens,
            segments=recording.of_first_image(segment),
            seeds=group.seeds,
            questions=group.questions,
            reads={read: recording.shown(read, segment) for read in reads},
        )
        return view, segment.tokens
    has_cls, crops = segments[0].has_cls, sum(segment.tower_images for segment in segments)
    images, rows, _ = recording.features.shape
    shape = images // crops, crops * (rows - int(has_cls))
    view = View(
        count=shape[1],
        segments=torch.zeros(shape, dtype=torch.long, device=recording.features.device),
        seeds=group.seeds,
        questions=group.questions,
        reads={read: _joined(_of_tower(recording, read), crops, read) for read in reads},
    )
    return view, crops * rows


def _joined(shown: Tensor, crops: int, read: AnyRead) -> Tensor:
    """What is shown of single crops [b · crops, ...], of all of an image: [b, ...]."""
    if crops == 1:
        return shown
    of_crop = shown.unflatten(0, (-1, crops))
    if what_of(read) in BY_PATCH:
        return of_crop.transpose(1, 2).flatten(2)
    return of_crop.flatten(1, 2)


def _of_tower(recording: TowerRecording, read: AnyRead) -> Tensor:
    """What `read` shows of the tower."""
    (what, layer), has_cls = recording.place(read), recording.has_cls
    if what is Read.FEATURES:
        return recording.features
    if layer not in recording.attended:
        raise broken(f"the vision tower's layer {layer} did not show its queries and keys")
    attended, of_tokens = recording.attended[layer], recording.token_patches
    if what is Read.CLS_QUERY:
        queries = attended.queries[:, :, :1] if has_cls else attended.queries
        return queries.transpose(1, 2).flatten(2)
    if what is Read.TOWER_KEYS:
        keys = attended.keys.transpose(1, 2).flatten(2)
        return keys if of_tokens is None else keys[:, int(has_cls) :][:, of_tokens].float().mean(2)
    weights = _of_patches(attended, what, has_cls)
    return weights if of_tokens is None else weights[..., of_tokens].mean(-1)


def _of_patches(attended: QueriesKeys, what: Read, has_cls: bool) -> Tensor:
    """float32 [i, H, patches]: of the CLS row, or of all rows on average."""
    if what is Read.RECEIVED_ATTENTION or not has_cls:
        return attended.received()[..., int(has_cls) :]
    first = torch.zeros_like(attended.keys[:, 0, :1, 0], dtype=torch.long)
    return attended.attention(first, None)[:, :, 0, 1:]


def inside_view(
    group: ImageGroup,
    reads: Sequence[Read],
    hidden: Tensor,
    attended: QueriesKeys | None,
    valid: Tensor,
) -> View:
    """The view of a stage between the tower's layers, for a group's images.

    `hidden` [i, rows, D] are the states of all images, `attended` what their layer's attention got;
    `valid` bool [b, most rows of the group]: not padding.
    """
    rows, has_cls = valid.shape[1], int(group.segment.has_cls)
    shown: dict[AnyRead, Tensor] = {}
    if Read.HIDDEN in reads:
        shown[Read.HIDDEN] = hidden[group.at, :rows]
    if {Read.KEYS, Read.VALUES, Read.CLS_ATTENTION} & set(reads):
        own = _attended_by(group, attended, rows, 1 if has_cls else rows)
        if Read.KEYS in reads:
            shown[Read.KEYS] = own.keys.float()
        if Read.VALUES in reads and own.values is not None:
            shown[Read.VALUES] = own.values.float()
        if Read.CLS_ATTENTION in reads:
            shown[Read.CLS_ATTENTION] = _cls_attention(own, valid, has_cls)
    return View(
        count=rows,
        segments=torch.zeros_like(valid, dtype=torch.long),
        seeds=group.seeds,
        carry={name: value[:, :rows] for name, value in group.carry.items()},
        reads=shown,
        valid=valid,
    )


def _attended_by(
    group: ImageGroup, attended: QueriesKeys | None, rows: int, asking: int
) -> QueriesKeys:
    if attended is None or attended.values is None:
        raise broken("the vision tower's attention did not show its queries, keys and values")
    q = attended.queries[group.at, :, :asking]
    k, v = (part[group.at, :, :rows] for part in (attended.keys, attended.values))
    return QueriesKeys(q, k, attended.scaling, v)


def _cls_attention(attended: QueriesKeys, valid: Tensor, has_cls: int) -> Tensor:
    """float32 [b, H, patches]: of the CLS row, or of all rows where there is none, on average."""
    batch, rows = valid.shape
    asking = torch.arange(1 if has_cls else rows, device=valid.device).expand(batch, -1)
    weights = attended.attention(asking, valid[:, None].expand(-1, asking.shape[1], -1))
    if has_cls:
        return weights[:, :, 0, 1:]
    asked = valid[:, None, :, None].float()
    return (weights * asked).sum(2) / asked.sum(2)
