"""What a stage may ask to see, and the view in which it sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torch import Tensor

from methods.errors import PruningError


class Read(StrEnum):
    """What a stage must see; nothing else is computed.

    Shapes: b samples (tower: images), v visual rows, t text rows, H heads, d head width,
    D hidden width. Text rows are all tokens that are not visual, in order, and after them once
    more the prompt's last token, whatever it is. In the decoder, keys and attention belong to
    the layer that has just run, before an MLP to that layer; inside the tower, to the stage's
    layer, and v counts all its rows, CLS first.
    """

    HIDDEN = "hidden"  # [b, v, D] hidden states (before layer 0: embeddings)
    TEXT_HIDDEN = "text_hidden"  # [b, t, D], with `View.text_after_image`
    PREVIOUS_HIDDEN = "previous_hidden"  # [b, v, D] that entered the layer that has just run
    NORMED_HIDDEN = "normed_hidden"  # [b, v, D] float32, through the model's final norm
    NORMED_TEXT = "normed_text"  # [b, t, D] float32, the same of text rows
    KEYS = "keys"  # [b, H_kv, v, d] after RoPE, float32
    TEXT_KEYS = "text_keys"  # [b, H_kv, t, d] after RoPE, float32
    UNROTATED_KEYS = "unrotated_keys"  # [b, H_kv, v, d] before RoPE, float32
    UNROTATED_QUERY = "unrotated_query"  # [b, H, d] float32: the last prompt token's, before RoPE
    VALUES = "values"  # inside the tower: [b, H, v, d] float32
    LAST_ATTENTION = "last_attention"  # [b, H, v] float32: the last prompt token's row
    TEXT_ATTENTION = "text_attention"  # [b, H, t, v] float32: rows of all text tokens
    VISUAL_ATTENTION = "visual_attention"  # [b, H, v, v] float32: rows of the visual tokens
    NEXT_LAST_ATTENTION = "next_last_attention"  # [b, H, v]: q and k of the layer about to run
    ROTARY = "rotary"  # `View.rotary`
    FEATURES = "features"  # tower: [b, rows, D] of the layer that is used, CLS row first
    TOWER_KEYS = "tower_keys"  # tower: [b, rows, D] output of k_proj, heads side by side
    CLS_QUERY = "cls_query"  # tower: [b, 1, D] output of q_proj; without a CLS row that of all rows
    CLS_ATTENTION = (
        "cls_attention"  # tower: [b, H, patches] float32: the CLS row's, or its stand-in
    )
    RECEIVED_ATTENTION = (
        "received_attention"  # tower: [b, H, patches] float32: mean of all rows, CLS included
    )


@dataclass(frozen=True)
class OfLayer:
    """What `read` shows of another tower layer than the one that is used.

    `layer` is its number from 0, or gives it for a tower of so many layers; not for `FEATURES`.
    """

    read: Read
    layer: int | Callable[[int], int]

    def __str__(self) -> str:
        return f"{self.read} of another layer"


AnyRead = Read | OfLayer
OF_TOWER = (
    *(Read.FEATURES, Read.TOWER_KEYS, Read.CLS_QUERY),
    *(Read.CLS_ATTENTION, Read.RECEIVED_ATTENTION),
)
BY_PATCH = (Read.CLS_ATTENTION, Read.RECEIVED_ATTENTION)
"""Of these, the ones of shape [b, H, patches]; the others are [b, rows, width]."""


def what_of(read: AnyRead) -> Read:
    """What is read, be it of the layer that is used or of another."""
    return read.read if isinstance(read, OfLayer) else read


def are_reads(values: Iterable[object]) -> bool:
    """Whether a stage can read all of these somewhere."""
    return {v.read if isinstance(v, OfLayer) else v for v in values} <= set(Read)


@dataclass(frozen=True)
class TextRows:
    """The text rows of a view, see `Read`.

    `after_image` bool [b, t]: text after the last visual token; False on padding and on the
    repeated last token. `positions` [b, t] and `visual_positions` [b, v] are position ids.
    """

    after_image: Tensor
    positions: Tensor
    visual_positions: Tensor
    inverse_frequencies: Tensor


@dataclass(frozen=True)
class View:
    """What a stage sees of a batch whose rows have equal sizes.

    Only what the stage `reads` is filled. `segments` [b, v] int64 tells each visual row's image,
    `seeds` [b] the seed of each sample, `questions` its text where that was given; `carry` holds
    what earlier stages left, see `Selection`; `entered` tells in the decoder how many visual tokens
    entered each layer so far.
    Text rows are left-padded to a common t. Inside the tower, where data may decide how many rows
    an image keeps, `valid` bool [b, v] tells rows from the padding after them.
    """

    count: int  # visual rows (between tower and projector: patches)
    segments: Tensor
    seeds: tuple[int, ...] = ()
    questions: tuple[str, ...] = ()
    carry: Mapping[str, Tensor] = field(default_factory=dict)
    reads: Mapping[AnyRead, Tensor] = field(default_factory=dict)
    text: TextRows | None = None
    valid: Tensor | None = None
    entered: tuple[int, ...] = ()

    @property
    def text_after_image(self) -> Tensor:
        return self._text.after_image

    @property
    def rotary(self) -> tuple[Tensor, Tensor, Tensor]:
        """Position ids of text [b, t] and visual rows [b, v], and the inverse frequencies [f]."""
        text = self._text
        return text.positions, text.visual_positions, text.inverse_frequencies

    @property
    def _text(self) -> TextRows:
        if self.text is None:
            raise PruningError("a stage has to read text rows or rotary angles to see them")
        return self.text

    def __getitem__(self, read: AnyRead) -> Tensor:
        return self.reads[read]
