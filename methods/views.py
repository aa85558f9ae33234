"""Fills the views of stages in the decoder: gathers what a stage reads for a group's samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from methods.attention import QueriesKeys
from methods.family import Adapter
from methods.groups import Group
from methods.mechanism import broken
from methods.reads import AnyRead, Read, TextRows, View
from methods.sequence import Run
from methods.tensors import first_true, gather_rows, last_true

Shows = TypeVar("Shows", Tensor, QueriesKeys)
_OF_TEXT = {
    Read.TEXT_HIDDEN,
    Read.NORMED_TEXT,
    Read.TEXT_KEYS,
    Read.TEXT_ATTENTION,
    Read.ROTARY,
}


@dataclass(frozen=True)
class Shown:
    """What the decoder shows before `layer`, to which `run` is the way.

    `hidden` [B, L, D] enter it, or its MLP; `entered` [B, L, D] entered the layer that has just
    run, `attended` are its queries and keys: both only where a stage reads them. `counts`: visual
    tokens of each sample that entered each layer so far.
    """

    adapter: Adapter
    layer: int
    run: Run
    hidden: Tensor
    entered: Tensor | None
    attended: QueriesKeys | None
    counts: Sequence[tuple[int, ...]]

    def about_to(self) -> QueriesKeys:
        """Of the layer about to run: q of each prompt's last token, and k of all."""
        rotary = self.run.rotary or self.adapter.rotary(self.hidden, self.run.position_ids)
        last = last_true(self.run.valid, 1)
        return self.adapter.queries_keys(self.layer, self.hidden, rotary, last)

    def normed(self, states: Tensor) -> Tensor:
        """States through the model's final norm, float32."""
        return self.adapter.norm(states).float()

    def unrotated(self, group: Group, states: Tensor, places: Tensor) -> Tensor:
        """States [b, H, r, d] of a group's sequence places [b, r] as they were before RoPE."""
        assert self.run.rotary is not None
        batch = len(self.run.valid)
        rotary = (part.expand(batch, -1, -1)[group.at] for part in self.run.rotary)
        cos, sin = (gather_rows(part, places) for part in rotary)
        return self.adapter.unrotated(states, (cos, sin))


def decoder_view(group: Group, reads: Sequence[Read], seen: Shown) -> tuple[View, Tensor]:
    """The view of a decoder stage, and the places int64 [b, v] of its rows in the sequence."""
    run = seen.run
    count = run.counts[group.rows[0]]
    slots = first_true(run.visual[group.at], count)
    last = last_true(run.valid[group.at], 1)
    shown: dict[AnyRead, Tensor] = {}
    if Read.HIDDEN in reads:
        shown[Read.HIDDEN] = gather_rows(seen.hidden[group.at], slots)
    if Read.PREVIOUS_HIDDEN in reads:
        shown[Read.PREVIOUS_HIDDEN] = gather_rows(_present(seen.entered)[group.at], slots)
    if Read.NORMED_HIDDEN in reads:
        shown[Read.NORMED_HIDDEN] = seen.normed(gather_rows(seen.hidden[group.at], slots))
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
    text = _text(group, slots, reads, seen, shown)
    view = View(
        count=count,
        segments=group.segments,
        seeds=group.seeds,
        questions=group.questions,
        carry={**group.visual, **group.text},
        reads=shown,
        text=text,
        entered=tuple(own[group.rows[0]] for own in seen.counts),
    )
    return view, slots


def _text(
    group: Group,
    slots: Tensor,
    reads: Sequence[Read],
    seen: Shown,
    shown: dict[AnyRead, Tensor],
) -> TextRows | None:
    """Fill what is read of text rows; None where nothing is."""
    if not _OF_TEXT & set(reads):
        return None
    run = seen.run
    is_text = (run.valid & ~run.visual)[group.at]
    longest = max(run.lengths[row] - run.counts[row] for row in group.rows)
    text = last_true(is_text, longest)
    places = torch.cat([text, last_true(run.valid[group.at], 1)], 1)
    if Read.TEXT_HIDDEN in reads:
        shown[Read.TEXT_HIDDEN] = gather_rows(seen.hidden[group.at], places)
    if Read.NORMED_TEXT in reads:
        shown[Read.NORMED_TEXT] = seen.normed(gather_rows(seen.hidden[group.at], places))
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
        inverse_frequencies=seen.adapter.inverse_frequencies,
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
