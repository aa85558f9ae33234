"""What the vision tower made of an image, kept so that every method and budget starts from it.

The projected tokens are kept, and of the tower what the compared methods read; the first bytes
come first: past the bound an image is recomputed each time, which changes time and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from methods.attention import QueriesKeys
from methods.reads import AnyRead, Read
from methods.tower_recording import TowerRecording

_USUAL = (Read.FEATURES, Read.TOWER_KEYS, Read.CLS_ATTENTION)


@dataclass(frozen=True)
class StoredImage:
    """`projected` [n, D] visual tokens; `recording` of one image, None if no method reads it."""

    projected: Tensor
    recording: TowerRecording | None

    @property
    def bytes(self) -> int:
        tensors = [self.projected]
        if self.recording is not None:
            tensors.append(self.recording.features)
            for attended in self.recording.attended.values():
                tensors += [attended.queries, attended.keys]
        return sum(t.numel() * t.element_size() for t in tensors)

    def shows(self, reads: Collection[AnyRead]) -> bool:
        """Whether all that is read of the tower was recorded."""
        return not reads or (self.recording is not None and self.recording.shows(reads))


class TowerStore:
    """Tower outputs by image key, at most `max_bytes` of them.

    One store serves one model in one dtype. `reads_tower` says whether any compared method has a
    stage in the tower; without one only the projected tokens are kept. `reads` are recorded of
    each image: at first what most methods read, then also what others turn out to.
    """

    def __init__(self, max_bytes: int, reads_tower: bool = True) -> None:
        self.max_bytes = max_bytes
        self.reads: set[AnyRead] = set(_USUAL) if reads_tower else set()
        self.stored_bytes = 0
        self._images: dict[str, StoredImage] = {}

    def expect(self, reads: Collection[AnyRead]) -> None:
        """Record these from now on, if anything of the tower is."""
        if self.reads:
            self.reads.update(reads)

    def holds(self, keys: Sequence[str], reads: Collection[AnyRead] = ()) -> bool:
        """Whether all these images are kept, with what is read of the tower."""
        return all(key in self._images and self._images[key].shows(reads) for key in keys)

    def put(self, key: str, image: StoredImage) -> None:
        """Keep an image if there is room, in the place of one that shows less."""
        old = self._images.get(key)
        if old is not None and old.shows(self.reads):
            return
        grown = self.stored_bytes + image.bytes - (old.bytes if old else 0)
        if grown <= self.max_bytes:
            self._images[key] = image
            self.stored_bytes = grown

    def clear(self) -> None:
        """Keep none of the images."""
        self._images.clear()
        self.stored_bytes = 0

    def projected(self, keys: Sequence[str]) -> list[Tensor]:
        return [self._images[key].projected for key in keys]

    def recording(self, keys: Sequence[str]) -> TowerRecording | None:
        """The recordings of these images as one, None if they were not recorded."""
        parts = [self._images[key].recording for key in keys]
        there = [part for part in parts if part is not None]
        if len(there) < len(parts):
            return None
        first = there[0]
        layers = [layer for layer in first.attended if all(layer in p.attended for p in there)]
        return replace(
            first,
            features=torch.stack([part.features for part in there]),
            attended={layer: _stacked([p.attended[layer] for p in there]) for layer in layers},
        )


def _stacked(images: Sequence[QueriesKeys]) -> QueriesKeys:
    """Of several images as one, with the queries that all of them have."""
    rows = min(image.queries.shape[1] for image in images)
    return QueriesKeys(
        torch.stack([image.queries[:, :rows] for image in images]),
        torch.stack([image.keys for image in images]),
        images[0].scaling,
    )


@dataclass(frozen=True)
class SharedImages:
    """The images of the coming prefill by key, in prompt order, and their store."""

    store: TowerStore
    keys: Sequence[str]

    def put(self, projected: Sequence[Tensor], recording: TowerRecording | None) -> None:
        """Keep what the tower has just made of the images."""
        for i, (key, tokens) in enumerate(zip(self.keys, projected, strict=True)):
            own = recording
            if recording is not None:
                own = recording.images([i]).map(lambda tensor: tensor[0].clone())
            self.store.put(key, StoredImage(tokens.clone(), own))
