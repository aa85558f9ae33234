"""What the vision tower showed of images, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from methods.attention import QueriesKeys
from methods.errors import PruningError
from methods.reads import OF_TOWER, AnyRead, OfLayer, Read
from methods.sizes import Segment
from methods.tensors import index_of


@dataclass(frozen=True)
class TowerRecording:
    """What the vision tower showed of each image: first dimension i, images in prompt order.

    `features` [i, rows, D] of layer `used` of `layers`, as they are projected; `attended`: keys of
    the layers that are read by their numbers, and their queries: of the CLS row where that is all
    that is read, else of all rows. Without a CLS row the mean attention of all rows stands in for
    its own. `token_patches` int64 [tokens, n]: where tokens are made of several patches, which; a
    token is then shown as the mean of them, and without CLS.
    """

    features: Tensor
    attended: Mapping[int, QueriesKeys]
    layers: int
    used: int
    has_cls: bool
    token_patches: Tensor | None = None
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    @property
    def count(self) -> int:
        """How many tower images."""
        return len(self.features)

    def images(self, places: Sequence[int]) -> TowerRecording:
        """Those of some images."""
        if list(places) == list(range(len(self.features))):
            return self
        index = index_of(places, self.features.device)
        return self.map(lambda tensor: tensor[index])

    def of_segments(self, segments: Sequence[Segment]) -> Tensor:
        """Features of images with these segments, crop after crop: [b, rows, D]."""
        crops = sum(segment.tower_images for segment in segments)
        return self.features.unflatten(0, (-1, crops)).flatten(1, 2)

    def map(self, change: Callable[[Tensor], Tensor]) -> TowerRecording:
        """The same with every tensor changed."""
        attended = {
            layer: QueriesKeys(change(own.queries), change(own.keys), own.scaling)
            for layer, own in self.attended.items()
        }
        return replace(self, features=change(self.features), attended=attended)

    def shows(self, reads: Iterable[AnyRead]) -> bool:
        """Whether all that is read was recorded."""
        for read, layer in map(self.place, reads):
            own = self.attended.get(layer)
            if read is Read.FEATURES:
                continue
            if own is None:
                return False
            if read is Read.RECEIVED_ATTENTION and own.queries.shape[-2] < own.keys.shape[-2]:
                return False
        return True

    def place(self, read: AnyRead) -> tuple[Read, int]:
        """What is read, and of which layer."""
        return place_of(read, self.layers, self.used)


def place_of(read: AnyRead, layers: int, used: int) -> tuple[Read, int]:
    """What is read in a tower, and of which of its `layers`, where `used` is the one in use.

    Raises PruningError for a layer that is not there, and for what a tower does not show.
    """
    what, layer = (read.read, read.layer) if isinstance(read, OfLayer) else (read, used)
    layer = layer if isinstance(layer, int) else layer(layers)
    if what not in OF_TOWER:
        raise PruningError(f"the vision tower does not show {what}; it has {', '.join(OF_TOWER)}")
    if not 0 <= layer < layers:
        raise PruningError(f"the vision tower has layers 0 to {layers - 1}, and no {layer}")
    return what, layer
