"""The rows of a batch of images between the vision tower's layers, and what became of each.

Pure bookkeeping on batched tensors; knows no model and no hook. Rows of images with different
counts are padded on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.plan import Cut
from methods.tensors import apply_cut, gather_rows, index_of


@dataclass(frozen=True)
class ImagesCut:
    """The cut of some images; `at` is `places` as an index, `rows` how many their views had."""

    places: tuple[int, ...]
    at: slice | Tensor
    rows: int
    cut: Cut


class RowsAtWork:
    """`counts` and `lengths` int64 [i]: rows of each image, on the host and on the device; `origin`
    int64 [i, rows]: which row at the start each is, or its anchor; `place_of` int64 [i, rows at the
    start]: where each is now, or what it was merged into, -1 if it was dropped.
    """

    def __init__(self, images: int, rows: int, device: torch.device) -> None:
        self.counts = [rows] * images
        self.lengths = torch.full((images,), rows, device=device)
        self.origin = torch.arange(rows, device=device).expand(images, -1)
        self.place_of = self.origin
        self.merged = False

    @property
    def padded(self) -> bool:
        return min(self.counts) < max(self.counts)

    def most(self, places: Sequence[int]) -> int:
        """Rows of the one with the most among some images."""
        return max(self.counts[place] for place in places)

    def valid(self, at: slice | Tensor) -> Tensor:
        """bool [b, rows] of some images: not padding."""
        index = torch.arange(self.origin.shape[1], device=self.origin.device)
        return index < self.lengths[at][:, None]

    def go_on(self, hidden: Tensor, cuts: Sequence[ImagesCut]) -> Tensor:
        """Take the cuts; the states [i, rows, D] that they leave of `hidden`.

        Waits for the device once where data decide how many rows are left.
        """
        self._count(cuts)
        width = max(self.counts)
        states, origin = hidden[:, :width].clone(), self.origin[:, :width].clone()
        place_of = self.place_of.clone()
        for own in cuts:
            made = apply_cut(hidden[own.at, : own.rows], own.cut)[:, :width]
            out = made.shape[1]
            states[own.at, :out] = made
            origin[own.at, :out] = gather_rows(self.origin[own.at], own.cut.anchors)[:, :out]
            place_of[own.at] = _followed(self.place_of[own.at], _new_places(own.cut, own.rows))
        self.origin, self.place_of = origin, place_of
        self.merged = self.merged or any(own.cut.merges for own in cuts)
        return states

    def _count(self, cuts: Sequence[ImagesCut]) -> None:
        self.lengths = self.lengths.clone()
        for own in cuts:
            out = own.cut.anchors.shape[1]
            self.lengths[own.at] = out if own.cut.counts is None else own.cut.counts
            for place in own.places:
                self.counts[place] = out
        if any(own.cut.counts is not None for own in cuts):
            self.counts = self.lengths.tolist()

    def whole_cut(self, places: Sequence[int], has_cls: int) -> Cut:
        """What all cuts together made of the rows that images with equal counts began with; without
        CLS.
        """
        at = index_of(places, self.origin.device)
        anchors = self.origin[at, has_cls : self.counts[places[0]]]
        if not self.merged:
            return Cut(anchors)
        groups = (self.place_of[at] - has_cls).clamp(min=-1)
        return Cut(anchors, groups, torch.zeros_like(anchors, dtype=torch.bool))

    def spread(self, projected: Tensor, has_cls: int) -> Tensor:
        """Patches [i, rows, D] to [i, patches at the start, D], each in its own place; zero where
        one was dropped.
        """
        patches = self.place_of.shape[1] - has_cls
        own = self.origin[:, has_cls:] - has_cls
        index = torch.where(self.valid(slice(None))[:, has_cls:], own, patches)
        index = index.to(projected.device)[..., None].expand_as(projected)
        whole = projected.new_zeros(len(projected), patches + 1, projected.shape[2])
        return whole.scatter(1, index, projected)[:, :patches]


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
