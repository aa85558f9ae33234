"""What a vision tower shows that merges patches to tokens of the language model itself.

It shows attention only: what tokens receive in some of its layers, and their keys. Rows go through
it image after image, in an order of its own; here they are the language model's, and a token's are
the mean of its patches'.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.attention import QueriesKeys
from methods.errors import PruningError
from methods.family import Adapter
from methods.mechanism import broken
from methods.reads import AnyRead, Read
from methods.recording import Observer
from methods.sizes import Segment
from methods.tower_recording import place_of


class MergingTower(Adapter):
    """A family whose tower merges the patches of a square to one token, its last step."""

    @property
    @abstractmethod
    def tower_layers(self) -> Sequence[nn.Module]:
        """The tower's layers; the last is the one in use."""

    @abstractmethod
    def seeing_layer(self, place: int) -> nn.Module:
        """One of them. Raises PruningError where it does not let all patches of an image attend to
        one another.
        """

    @abstractmethod
    def tower_order(self, segment: Segment) -> Tensor:
        """int64 [tokens]: which of an image's tokens are the tower's first, second …"""

    def place(self, read: AnyRead) -> tuple[Read, int]:
        """What is read, and of which layer."""
        layers = len(self.tower_layers)
        return place_of(read, layers, layers - 1)


@dataclass(frozen=True)
class MergedRecording:
    """By layer, of each image its queries and keys [1, H, patches, d]."""

    adapter: MergingTower
    attended: Mapping[int, Sequence[QueriesKeys]]

    @property
    def count(self) -> int:
        """How many images."""
        return len(self._of_any_layer)

    @property
    def _of_any_layer(self) -> Sequence[QueriesKeys]:
        return next(iter(self.attended.values()))

    def images(self, places: Sequence[int]) -> MergedRecording:
        """Those of some images."""
        own = {layer: [of[place] for place in places] for layer, of in self.attended.items()}
        return MergedRecording(self.adapter, own)

    def of_first_image(self, segment: Segment) -> Tensor:
        """int64 [b, tokens] of zeros: each image is seen by itself."""
        device = self._of_any_layer[0].keys.device
        return torch.zeros(self.count, segment.tokens, dtype=torch.long, device=device)

    def shown(self, read: AnyRead, segment: Segment) -> Tensor:
        """What `read` shows of images of one size. Raises PruningError for what is not shown."""
        what, layer = self.adapter.place(read)
        if what is Read.RECEIVED_ATTENTION:
            received = torch.cat([own.received() for own in self.attended[layer]])
            return self._of_tokens(received[..., None], segment)[..., 0]
        if what is Read.TOWER_KEYS:
            keys = torch.cat([own.keys for own in self.attended[layer]]).float()
            return self._of_tokens(keys, segment).transpose(1, 2).flatten(2)
        raise PruningError(f"a tower that merges patches does not show {read}")

    def _of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        """[b, H, patches, d] in the tower's order to [b, H, tokens, d]."""
        tokens = states.unflatten(2, (segment.tokens, -1)).mean(3)
        first_to_last = self.adapter.tower_order(segment).to(states.device)
        return tokens[:, :, first_to_last.argsort()]


class MergedWatch:
    """Sees queries and keys of the layers that are read: of all images at once, or in turn, by
    kernel.
    """

    def __init__(self, adapter: MergingTower, reads: Sequence[AnyRead]) -> None:
        self.adapter = adapter
        self.calls: dict[int, list[QueriesKeys]] = {adapter.place(read)[1]: [] for read in reads}

    def observers(self) -> dict[nn.Module, Observer]:
        adapter = self.adapter
        return {
            adapter.attention(adapter.seeing_layer(layer)): calls.append
            for layer, calls in self.calls.items()
        }

    def before(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called before modules, with their arguments by name too."""
        return {self.adapter.tower: self._begin}

    def _begin(self, *_: object) -> None:
        for calls in self.calls.values():
            calls.clear()

    def after(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called after modules."""
        return {}

    def recording_of(self, images: Sequence[Segment]) -> MergedRecording:
        """What the tower showed of the images that came last. Raises MechanismError where others
        did.
        """
        patches = [segment.tokens * segment.merged**2 for segment in images]
        of_layers = {layer: _of_images(calls, patches) for layer, calls in self.calls.items()}
        return MergedRecording(self.adapter, of_layers)


def _of_images(calls: Sequence[QueriesKeys], patches: Sequence[int]) -> list[QueriesKeys]:
    """One layer's queries and keys, image by image."""
    if sum(call.keys.shape[2] for call in calls) != sum(patches):
        raise broken("the vision tower showed other patches than the images have")
    queries = torch.cat([call.queries for call in calls], 2).split(list(patches), 2)
    keys = torch.cat([call.keys for call in calls], 2).split(list(patches), 2)
    scaling = calls[0].scaling
    return [QueriesKeys(q, k, scaling) for q, k in zip(queries, keys, strict=True)]
