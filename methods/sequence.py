"""The sequence that a run of decoder layers sees, and how a cut makes the next one out of it.

Pure bookkeeping on batched tensors; knows no model and no hook. A sequence is left-padded once a
cut has touched it. Lengths are known on the host, so that nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from methods.plan import Positions
from methods.tensors import gather_rows


@dataclass
class Run:
    """What decoder layers `first` … (next run's first) − 1 see.

    `valid` and `visual` bool [B, L]: not padding, and a visual token; `positions` int64 [B, L];
    `axes` int64 [3, B, L] where angles are of several axes' positions, beside these; `added`
    [B, L, D] to what leaves each of the first layers; `lengths` and `counts`: tokens and visual
    tokens of each sample; `next_position` int64 [B] of the token generated next. `rotary`
    (cos, sin) [B, L, d] and `mask` belong to the last forward.
    """

    first: int
    valid: Tensor
    visual: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    counts: tuple[int, ...]
    next_position: Tensor = field(init=False)
    rotary: tuple[Tensor, Tensor] | None = None
    mask: Any = None
    axes: Tensor | None = None
    added: tuple[Tensor, ...] = ()

    @property
    def mask_2d(self) -> Tensor | None:
        """int64 [B, L] attention mask; None where nothing is padding."""
        padded = any(length != self.valid.shape[1] for length in self.lengths)
        return self.valid.long() if padded else None

    @property
    def position_ids(self) -> Tensor:
        """What angles are made of: the axes, or the positions where there are none."""
        return self.positions if self.axes is None else self.axes

    @cached_property
    def visual_counts(self) -> Tensor:
        """int64 [B], counted from the flags."""
        return (self.visual & self.valid).sum(1)

    def to(self, device: torch.device) -> Run:
        """The same on another device, but for the mask, which belongs to one forward."""
        return replace(
            self,
            valid=self.valid.to(device),
            visual=self.visual.to(device),
            positions=self.positions.to(device),
            axes=None if self.axes is None else self.axes.to(device),
            added=tuple(own.to(device) for own in self.added),
            rotary=self.rotary and (self.rotary[0].to(device), self.rotary[1].to(device)),
        )

    def grow(self) -> None:
        """Take in the token that has just been generated."""
        one = torch.ones_like(self.valid[:, :1])
        self.valid = torch.cat([self.valid, one], 1)
        self.lengths = tuple(length + 1 for length in self.lengths)
        self.next_position = self.next_position + 1


@dataclass(frozen=True)
class Piece:
    """The visual rows that some samples of the batch go on with.

    `rows`: the samples, `at` the same as an index on the device; `slots` int64 [b, out]: place in
    the old sequence of each row's anchor, in the order in which they shall follow one another;
    `states` [b, out, D] where they are not the anchors' own; `positions`: the rule for the
    samples' position ids.
    """

    rows: tuple[int, ...]
    at: slice | Tensor
    slots: Tensor
    states: Tensor | None
    positions: Positions


@dataclass(frozen=True)
class Splice:
    """How the next sequence is gathered from the old one and the pieces.

    `source` int64 [B, L'] place in the old sequence of each new row (of its anchor, if merged);
    `order` int64 [B, L'] place in [old sequence | states of the pieces].
    """

    order: Tensor
    source: Tensor
    valid: Tensor
    visual: Tensor

    def states(self, hidden: Tensor, pieces: Sequence[Piece]) -> Tensor:
        """Hidden states [B, L, D] of the old sequence to those [B, L', D] of the new one."""
        if all(piece.states is None for piece in pieces):
            return gather_rows(hidden, self.source)
        width = max(piece.slots.shape[1] for piece in pieces)
        extra = hidden.new_zeros(hidden.shape[0], width, hidden.shape[2])
        for piece in pieces:
            states = piece.states
            if states is None:
                states = gather_rows(hidden[piece.at], piece.slots)
            extra[piece.at, : states.shape[1]] = states
        return gather_rows(torch.cat([hidden, extra], 1), self.order)


def splice(run: Run, pieces: Sequence[Piece]) -> Splice:
    """Put each sample's text and the pieces' visual rows into one left-padded sequence.

    A visual row follows everything up to the furthest anchor of the rows before it, so that rows
    in sequence order stay where they are and appended ones come right after the last visual token.
    """
    batch, length = run.valid.shape
    device = run.valid.device
    lengths = new_lengths(run, pieces)
    cut = torch.zeros(batch, 1, dtype=torch.bool, device=device)
    slots = torch.full(
        (batch, max(new_counts(pieces).values())), -1, dtype=torch.long, device=device
    )
    for piece in pieces:
        cut[piece.at] = True
        slots[piece.at, : piece.slots.shape[1]] = piece.slots
    stays = run.valid & ~(run.visual & cut)
    place = torch.arange(length, device=device).expand(batch, length)
    keys = torch.cat(
        [torch.where(stays, place, -1), torch.where(slots >= 0, slots.cummax(1).values, -1)], 1
    )
    order = keys.argsort(dim=1, stable=True)[:, keys.shape[1] - max(lengths) :]
    visual = torch.cat([run.visual & stays, slots >= 0], 1)
    return Splice(
        order=order,
        source=torch.cat([place, slots.clamp(min=0)], 1).gather(1, order),
        valid=keys.gather(1, order) >= 0,
        visual=visual.gather(1, order),
    )


def new_lengths(run: Run, pieces: Sequence[Piece]) -> tuple[int, ...]:
    """Tokens of each sample after the splice."""
    lengths = list(run.lengths)
    for row, count in new_counts(pieces).items():
        lengths[row] += count - run.counts[row]
    return tuple(lengths)


def new_counts(pieces: Sequence[Piece]) -> dict[int, int]:
    """Visual tokens after the splice of the samples that it cuts."""
    return {row: piece.slots.shape[1] for piece in pieces for row in piece.rows}


def new_positions(run: Run, spliced: Splice, pieces: Sequence[Piece]) -> Tensor:
    """Position ids int64 [B, L'] after a splice, by each piece's rule."""
    positions = run.positions.gather(1, spliced.source)
    for piece in pieces:
        at = piece.at
        if piece.positions is Positions.CONTIGUOUS:
            positions[at] = (spliced.valid[at].cumsum(1) - 1).clamp(min=0)
        if piece.positions is Positions.ENTERED_INDEX:
            entered = (run.valid[at].cumsum(1) - 1).clamp(min=0)
            positions[at] = entered.gather(1, spliced.source[at])
    return positions


def after_cut(run: Run, layer: int, hidden: Tensor, pieces: Sequence[Piece]) -> tuple[Run, Tensor]:
    """The run that begins before `layer` with what a cut leaves of `run`, and its states.

    `hidden` [B, L, D] to [B, L', D]. The new run has rotary angles where the old one's are still
    right: where every row stays at its position.
    """
    spliced, counts = splice(run, pieces), new_counts(pieces)
    new = Run(
        first=layer,
        valid=spliced.valid,
        visual=spliced.visual,
        positions=new_positions(run, spliced, pieces),
        lengths=new_lengths(run, pieces),
        counts=tuple(counts.get(row, count) for row, count in enumerate(run.counts)),
        axes=None if run.axes is None else run.axes.gather(2, spliced.source.expand(3, -1, -1)),
        added=tuple(gather_rows(own, spliced.source) for own in run.added),
    )
    if run.rotary is not None and all(p.positions is Positions.ORIGINAL for p in pieces):
        batch = len(spliced.source)
        cos, sin = (part.expand(batch, -1, -1) for part in run.rotary)
        new.rotary = gather_rows(cos, spliced.source), gather_rows(sin, spliced.source)
    return new, spliced.states(hidden, pieces)


def run_of(runs: Sequence[Run], layer: int) -> Run:
    """The one of `runs`, in order, that a layer belongs to."""
    return next(run for run in reversed(runs) if run.first <= layer)
