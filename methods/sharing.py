"""What the vision tower made of an image, kept so that every method and budget starts from it.

The projected tokens are kept, and of the tower what the compared methods read; the first bytes
come first: past the bound an image is recomputed each time, which changes time and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.attention import QueriesKeys
from methods.views import TowerRecording


@dataclass(frozen=True)
class StoredImage:
    """`projected` [n, D] visual tokens; `recording` of one image, None if no method reads it."""

    projected: Tensor
    recording: TowerRecording | None

    @property
    def bytes(self) -> int:
        tensors = [self.projected]
        if self.recording is not None:
            attended = self.recording.attended
            tensors += [self.recording.features, attended.queries, attended.keys]
        return sum(t.numel() * t.element_size() for t in tensors)


class TowerStore:
    """Tower outputs by image key, at most `max_bytes` of them.

    One store serves one model in one dtype. `reads_tower` says whether any compared method has a
    stage in the tower; without one only the projected tokens are kept.
    """

    def __init__(self, max_bytes: int, reads_tower: bool = True) -> None:
        self.max_bytes = max_bytes
        self.reads_tower = reads_tower
        self.stored_bytes = 0
        self._images: dict[str, StoredImage] = {}

    def holds(self, keys: Sequence[str]) -> bool:
        return all(key in self._images for key in keys)

    def put(self, key: str, image: StoredImage) -> None:
        """Keep an image if there is room."""
        if key not in self._images and self.stored_bytes + image.bytes <= self.max_bytes:
            self._images[key] = image
            self.stored_bytes += image.bytes

    def projected(self, keys: Sequence[str]) -> list[Tensor]:
        return [self._images[key].projected for key in keys]

    def recording(self, keys: Sequence[str]) -> TowerRecording | None:
        """The recordings of these images as one, None if they were not recorded."""
        parts = [self._images[key].recording for key in keys]
        there = [part for part in parts if part is not None]
        if len(there) < len(parts):
            return None
        return TowerRecording(
            torch.stack([part.features for part in there]),
            QueriesKeys(
                torch.stack([part.attended.queries for part in there]),
                torch.stack([part.attended.keys for part in there]),
                there[0].attended.scaling,
            ),
        )


@dataclass(frozen=True)
class SharedImages:
    """The images of the coming prefill by key, in prompt order, and their store."""

    store: TowerStore
    keys: Sequence[str]

    def put(self, projected: Sequence[Tensor], recording: TowerRecording | None) -> None:
        """Keep what the tower has just made of the images."""
        for i, (key, tokens) in enumerate(zip(self.keys, projected, strict=True)):
            own = None if recording is None else recording.images([i])
            if own is not None:
                attended = own.attended
                own = TowerRecording(
                    own.features[0].clone(),
                    QueriesKeys(
                        attended.queries[0].clone(), attended.keys[0].clone(), attended.scaling
                    ),
                )
            self.store.put(key, StoredImage(tokens.clone(), own))
