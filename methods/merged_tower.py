"""What a vision tower shows of tokens of the language model that are not its rows: patches that it
merges itself, frames of a video that are pooled behind it.

It shows attention only: what tokens receive in some of its layers, and their keys. Rows go through
it image after image, or frame after frame, in an order of its own; here they are the language
model's, and a token's are its patches' in the way in which its features are made of theirs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from methods.tower_recording import place_of


class MergingTower(Adapter):
    """A family of which tokens are shown, and not rows of the tower."""

    shown_kinds: ClassVar[tuple[str, ...]] = KINDS
    """Of which of `KINDS`."""

    @property
    @abstractmethod
    def tower_layers(self) -> Sequence[nn.Module]:
        """The tower's layers."""

    @property
    def feature_place(self) -> int:
        """Which of them, counted from 0, puts out the features: the last."""
        return len(self.tower_layers) - 1

    @abstractmethod
    def seeing_layer(self, place: int) -> nn.Module:
        """One of them. Raises PruningError where it does not let all patches of an image attend to
        one another.
        """

    @abstractmethod
    def frame_rows(self, segment: Segment) -> int:
        """Rows of the tower that an image, or a frame, has."""

    @abstractmethod
    def of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        """States [n, H, rows, d] of the tower's rows of images, or frames, to those of their tokens
        [n, H, tokens, d].
        """

    def place(self, read: AnyRead) -> tuple[Read, int]:
        """What is read, and of which layer."""
        return place_of(read, len(self.tower_layers), self.feature_place)


@dataclass(frozen=True)
class MergedRecording:
    """By layer, of each image or frame its queries and keys [1, H, rows, d], kind after kind."""

    adapter: MergingTower
    attended: Mapping[int, Sequence[QueriesKeys]]
    kinds: tuple[str, ...] = KINDS

    @property
    def count(self) -> int:
        """How many images or frames."""
        return len(self._of_any_layer)

    @property
    def _of_any_layer(self) -> Sequence[QueriesKeys]:
        return next(iter(self.attended.values()))

    def images(self, places: Sequence[int]) -> MergedRecording:
        """Those of some images or frames."""
        own = {layer: [of[place] for place in places] for layer, of in self.attended.items()}
        return MergedRecording(self.adapter, own, self.kinds)

    def of_first_image(self, segment: Segment) -> Tensor:
        """int64 [b, tokens] of zeros: each image is seen by itself."""
        device = self._of_any_layer[0].keys.device
        shape = self.count // segment.tower_images, segment.tokens
        return torch.zeros(shape, dtype=torch.long, device=device)

    def shown(self, read: AnyRead, segment: Segment) -> Tensor:
        """What `read` shows of images or videos of one size: of a newline 0. Raises PruningError
        for what is not shown.
        """
        what, layer = self.adapter.place(read)
        if what is Read.CLS_ATTENTION and self.adapter.has_cls:
            first = torch.zeros(1, 1, dtype=torch.long, device=self._of_any_layer[0].keys.device)
            rows = torch.cat([own.attention(first, None) for own in self.attended[layer]])
            return self._of_tokens(rows.transpose(2, 3), segment)[..., 0]
        if what in (Read.RECEIVED_ATTENTION, Read.CLS_ATTENTION):
            received = torch.cat([own.received() for own in self.attended[layer]])
            return self._of_tokens(received[..., None], segment)[..., 0]
        if what is Read.TOWER_KEYS:
            keys = torch.cat([own.keys for own in self.attended[layer]]).float()
            return self._of_tokens(keys, segment).transpose(1, 2).flatten(2)
        raise PruningError(f"of tokens that are merged from a tower's rows it does not show {read}")

    def _of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        """[b · frames, H, rows, d] to [b, H, tokens, d]."""
        tokens = self.adapter.of_tokens(states, segment).unflatten(0, (-1, segment.tower_images))
        whole = tokens.transpose(1, 2).flatten(2, 3)
        return pad(whole, (0, 0, 0, segment.tokens - whole.shape[2]))


class MergedWatch:
    """Sees queries and keys of the layers that are read: of all images at once, or in turn, by
    kernel. `kind` tells of which kind what passes the tower is.
    """

    def __init__(
        self, adapter: MergingTower, reads: Sequence[AnyRead], kind: Callable[[], str | None]
    ) -> None:
        self.adapter, self.kind = adapter, kind
        self.calls: dict[int, dict[str | None, list[QueriesKeys]]] = {
            adapter.place(read)[1]: {} for read in reads
        }

    def observers(self) -> dict[nn.Module, Observer]:
        adapter = self.adapter
        return {
            adapter.attention(adapter.seeing_layer(layer)): partial(self._see, calls)
            for layer, calls in self.calls.items()
        }

    def _see(self, calls: dict[str | None, list[QueriesKeys]], attended: QueriesKeys) -> None:
        if self.kind() in self.adapter.shown_kinds:
            calls.setdefault(self.kind(), []).append(attended)

    def before(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called before modules, with their arguments by name too."""
        return dict.fromkeys(self.adapter.towers, self._begin)

    def _begin(self, *_: object) -> None:
        for calls in self.calls.values():
            calls[self.kind()] = []

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
        rows = [
            self.adapter.frame_rows(segment)
            for kind in kinds
            for segment in encoded[kind]
            for _ in range(segment.tower_images)
        ]
        of_layers = {
            layer: _of_images([call for kind in kinds for call in calls.get(kind, ())], rows)
            for layer, calls in self.calls.items()
        }
        return MergedRecording(self.adapter, of_layers, kinds)


def _of_images(calls: Sequence[QueriesKeys], rows: Sequence[int]) -> list[QueriesKeys]:
    """One layer's queries and keys, of each image or frame, which have so many rows."""
    if sum(len(call.keys) * call.keys.shape[2] for call in calls) != sum(rows):
        raise broken("the vision tower showed other patches than the images have")
    queries, keys = (
        torch.cat([_one_after_another(own) for own in states], 2).split(list(rows), 2)
        for states in ([call.queries for call in calls], [call.keys for call in calls])
    )
    scaling = calls[0].scaling
    return [QueriesKeys(q, k, scaling) for q, k in zip(queries, keys, strict=True)]


def _one_after_another(states: Tensor) -> Tensor:
    """[n, H, rows, d] to [1, H, n · rows, d]."""
    return states.transpose(0, 1).flatten(1, 2)[None]
