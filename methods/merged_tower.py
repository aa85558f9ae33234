"""What a vision tower shows that merges patches to tokens of the language model itself.

It shows its last layer's attention only: what tokens receive, and their keys. Rows go through it
image after image, in an order of its own; here they are the language model's, and a token's are the
mean of its patches'.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
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


class MergingTower(Adapter):
    """A family whose tower merges the patches of a square to one token, its last step."""

    @property
    @abstractmethod
    def last_layer(self) -> nn.Module:
        """The tower's last layer, in which all patches of an image attend to one another."""

    @abstractmethod
    def tower_order(self, segment: Segment) -> Tensor:
        """int64 [tokens]: which of an image's tokens are the tower's first, second …"""


@dataclass(frozen=True)
class MergedRecording:
    """Of each image the queries and keys [1, H, patches, d] of the tower's last layer."""

    adapter: MergingTower
    attended: Sequence[QueriesKeys]

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.attended)

    def images(self, places: Sequence[int]) -> MergedRecording:
        """Those of some images."""
        return MergedRecording(self.adapter, [self.attended[place] for place in places])

    def of_first_image(self, segment: Segment) -> Tensor:
        """int64 [b, tokens] of zeros: each image is seen by itself."""
        device = self.attended[0].keys.device
        return torch.zeros(self.count, segment.tokens, dtype=torch.long, device=device)

    def shown(self, read: AnyRead, segment: Segment) -> Tensor:
        """What `read` shows of images of one size. Raises PruningError for what is not shown."""
        if read is Read.RECEIVED_ATTENTION:
            received = torch.cat([own.received() for own in self.attended])
            return self._of_tokens(received[..., None], segment)[..., 0]
        if read is Read.TOWER_KEYS:
            keys = torch.cat([own.keys for own in self.attended]).float()
            return self._of_tokens(keys, segment).transpose(1, 2).flatten(2)
        raise PruningError(f"a tower that merges patches does not show {read}")

    def _of_tokens(self, states: Tensor, segment: Segment) -> Tensor:
        """[b, H, patches, d] in the tower's order to [b, H, tokens, d]."""
        tokens = states.unflatten(2, (segment.tokens, -1)).mean(3)
        first_to_last = self.adapter.tower_order(segment).to(states.device)
        return tokens[:, :, first_to_last.argsort()]


class MergedWatch:
    """Sees the last layer's queries and keys: of all images at once, or in turn, by kernel."""

    def __init__(self, adapter: MergingTower) -> None:
        self.adapter = adapter
        self.calls: list[QueriesKeys] = []

    def observers(self) -> dict[nn.Module, Observer]:
        return {self.adapter.attention(self.adapter.last_layer): self.calls.append}

    def before(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called before modules, with their arguments by name too."""
        return {self.adapter.tower: lambda *_: self.calls.clear()}

    def after(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called after modules."""
        return {}

    def recording_of(self, images: Sequence[Segment]) -> MergedRecording:
        """What the tower showed of the images that came last. Raises MechanismError where others
        did.
        """
        patches = [segment.tokens * segment.merged**2 for segment in images]
        if sum(call.keys.shape[2] for call in self.calls) != sum(patches):
            raise broken("the vision tower showed other patches than the images have")
        queries = torch.cat([call.queries for call in self.calls], 2).split(patches, 2)
        keys = torch.cat([call.keys for call in self.calls], 2).split(patches, 2)
        scaling = self.calls[0].scaling
        return MergedRecording(
            self.adapter, [QueriesKeys(q, k, scaling) for q, k in zip(queries, keys, strict=True)]
        )
