"""What a vision tower shows of tokens of the language model that are not its rows: patches that it
merges itself, frames of a video that are pooled behind it.

It shows one layer's attention only: what tokens receive, and their keys. Rows go through it image
after image, or frame after frame, in an order of its own; here they are the language model's, and a
token's are its patches' in the way in which its features are made of theirs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from methods.attention import QueriesKeys
from methods.errors import PruningError
from methods.family import KINDS, Adapter
from methods.mechanism import broken
from methods.reads import AnyRead, Read
from methods.recording import Observer
from methods.sizes import Segment


class MergingTower(Adapter):
    """A family of which tokens are shown, and not rows of the tower."""

    shown_kinds: ClassVar[tuple[str, ...]] = KINDS
    """Of which of `KINDS`."""

    @property
    @abstractmethod
    def last_layer(self) -> nn.Module:
        """The tower's layer that shows, in which all patches of an image, or a frame, attend to one
        another.
        """

    @abstractmethod
    def frame_rows(self, segment: Segment) -> int:
        """Rows of the tower that an image, or a frame, has."""

    @abstractmethod
    def of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        """States [n, H, rows, d] of the tower's rows of images, or frames, to those of their tokens
        [n, H, tokens, d].
        """


@dataclass(frozen=True)
class MergedRecording:
    """Of each image or frame the queries and keys [1, H, rows, d] of the layer that shows, those of
    each of `kinds` one after another.
    """

    adapter: MergingTower
    attended: Sequence[QueriesKeys]
    kinds: tuple[str, ...] = KINDS

    @property
    def count(self) -> int:
        """How many images or frames."""
        return len(self.attended)

    def images(self, places: Sequence[int]) -> MergedRecording:
        """Those of some images or frames."""
        return MergedRecording(self.adapter, [self.attended[place] for place in places], self.kinds)

    def of_first_image(self, segment: Segment) -> Tensor:
        """int64 [b, tokens] of zeros: each image is seen by itself."""
        device = self.attended[0].keys.device
        shape = self.count // segment.tower_images, segment.tokens
        return torch.zeros(shape, dtype=torch.long, device=device)

    def shown(self, read: AnyRead, segment: Segment) -> Tensor:
        """What `read` shows of images or videos of one size: of a newline 0. Raises PruningError
        for what is not shown.
        """
        if read is Read.CLS_ATTENTION and self.adapter.has_cls:
            first = torch.zeros(1, 1, dtype=torch.long, device=self.attended[0].keys.device)
            rows = torch.cat([own.attention(first, None) for own in self.attended])
            return self._of_tokens(rows.transpose(2, 3), segment)[..., 0]
        if read in (Read.RECEIVED_ATTENTION, Read.CLS_ATTENTION):
            received = torch.cat([own.received() for own in self.attended])
            return self._of_tokens(received[..., None], segment)[..., 0]
        if read is Read.TOWER_KEYS:
            keys = torch.cat([own.keys for own in self.attended]).float()
            return self._of_tokens(keys, segment).transpose(1, 2).flatten(2)
        raise PruningError(f"of tokens that are merged from a tower's rows it does not show {read}")

    def _of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        """[b · frames, H, rows, d] to [b, H, tokens, d]."""
        tokens = self.adapter.of_tokens(states, segment).unflatten(0, (-1, segment.tower_images))
        whole = tokens.transpose(1, 2).flatten(2, 3)
        return pad(whole, (0, 0, 0, segment.tokens - whole.shape[2]))


class MergedWatch:
    """Sees the queries and keys of a layer: of all images at once, or in turn, by kernel.

    `kind` tells of which kind what passes the tower is.
    """

    def __init__(self, adapter: MergingTower, kind: Callable[[], str | None]) -> None:
        self.adapter, self.kind = adapter, kind
        self.calls: dict[str | None, list[QueriesKeys]] = {}

    def observers(self) -> dict[nn.Module, Observer]:
        return {self.adapter.attention(self.adapter.last_layer): self._see}

    def _see(self, attended: QueriesKeys) -> None:
        if self.kind() in self.adapter.shown_kinds:
            self.calls.setdefault(self.kind(), []).append(attended)

    def before(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called before modules, with their arguments by name too."""
        return dict.fromkeys(self.adapter.towers, self._begin)

    def _begin(self, tower: nn.Module, args: tuple, kwargs: dict) -> None:
        self.calls[self.kind()] = []

    def after(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called after modules."""
        return {}

    def recording_of(self, encoded: Mapping[str, Sequence[Segment]]) -> MergedRecording | None:
        """What the tower showed of the images and videos that came last, by kind; None where it
        shows none of these kinds. Raises MechanismError where others did.
        """
        kinds = tuple(kind for kind in self.adapter.shown_kinds if encoded.get(kind))
        if not kinds:
            return None
        calls = [call for kind in kinds for call in self.calls.get(kind, ())]
        rows = [
            self.adapter.frame_rows(segment)
            for kind in kinds
            for segment in encoded[kind]
            for _ in range(segment.tower_images)
        ]
        if sum(len(call.keys) * call.keys.shape[2] for call in calls) != sum(rows):
            raise broken("the vision tower showed other patches than the images have")
        queries, keys = (
            torch.cat([_one_after_another(own) for own in states], 2).split(rows, 2)
            for states in ([c.queries for c in calls], [c.keys for c in calls])
        )
        attended = [QueriesKeys(q, k, calls[0].scaling) for q, k in zip(queries, keys, strict=True)]
        return MergedRecording(self.adapter, attended, kinds)


def _one_after_another(states: Tensor) -> Tensor:
    """[n, H, rows, d] to [1, H, n · rows, d]."""
    return states.transpose(0, 1).flatten(1, 2)[None]
