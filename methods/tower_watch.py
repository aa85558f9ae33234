"""What the vision tower shows of the coming images: seen in its forward, or taken from a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from methods.attention import QueriesKeys
from methods.encoder_calls import EncoderCalls
from methods.method import Method
from methods.reads import AnyRead, Read
from methods.recording import Observer
from methods.sharing import SharedImages
from methods.sizes import Segment
from methods.tower_family import TowerAdapter
from methods.tower_recording import TowerRecording, place_of


class TowerWatch:
    """`recording` is what the tower showed last; None before its first forward, or where nothing
    is read. `images` are stored ones, if any.
    """

    def __init__(
        self,
        adapter: TowerAdapter,
        method: Method,
        calls: EncoderCalls,
        images: SharedImages | None,
    ) -> None:
        self.adapter, self.method, self.calls, self.images = adapter, method, calls, images
        self.recording: TowerRecording | None = None
        self.attended: dict[int, QueriesKeys] = {}
        if images is not None:
            images.store.expect(method.tower_reads)

    @property
    def reads(self) -> set[AnyRead]:
        """What this method reads of the tower, and what is to be stored for others."""
        own = set(self.method.tower_reads)
        return own if self.images is None else own | self.images.store.reads

    def observers(self) -> dict[nn.Module, Observer]:
        """Those of the attention modules whose queries and keys are read."""
        layers, used = self.adapter.tower_layers, self.adapter.feature_place
        places = {place_of(read, len(layers), used) for read in self.reads}
        observers: dict[nn.Module, Observer] = {}
        for i in {layer for read, layer in places if read is not Read.FEATURES}:
            whole = (Read.RECEIVED_ATTENTION, i) in places or not self.adapter.has_cls
            observers[self.adapter.attention(layers[i])] = self._observer(i, whole)
        return observers

    def _observer(self, i: int, whole: bool) -> Observer:
        """Keeps layer i's keys and its queries: the first row's, or those of the `whole`."""

        def observe(attended: QueriesKeys) -> None:
            if self._of_video:
                return
            queries = attended.queries if whole else attended.queries[:, :, :1]
            self.attended[i] = QueriesKeys(queries, attended.keys, attended.scaling)

        return observe

    def before(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called before modules, with their arguments by name too."""
        return {self.adapter.tower: self.begin} if self.reads else {}

    def after(self) -> dict[nn.Module, Callable[..., None]]:
        """What is called after modules."""
        used = self.adapter.tower_layers[self.adapter.feature_place]
        return {used: self.see_features} if self.reads else {}

    def recording_of(self, encoded: Mapping[str, Sequence[Segment]]) -> TowerRecording | None:
        """What the tower showed of the images that came last."""
        return self.recording

    @property
    def _of_video(self) -> bool:
        """Whether it is a video's frames that go through the tower, which are not read."""
        return self.calls.within == "video"

    def begin(self, tower: nn.Module, args: tuple, kwargs: dict) -> None:
        """Before the tower's forward."""
        self.adapter.check_tower_call(kwargs)
        if not self._of_video:
            self.attended = {}

    def see_features(self, layer: nn.Module, args: tuple, output: Any) -> None:
        """After the layer that is used."""
        if self._of_video:
            return
        adapter, features = self.adapter, output[0] if isinstance(output, tuple) else output
        self.recording = TowerRecording(
            adapter.as_projected(features),
            self.attended,
            len(adapter.tower_layers),
            adapter.feature_place,
            adapter.has_cls,
            adapter.token_patches(features.device),
        )

    def sharing(self, images: SharedImages, original: Callable[..., Any]) -> Callable[..., Any]:
        """`get_image_features` that takes stored images from the store and stores new ones."""
        reads = self.method.tower_reads

        @wraps(original)
        def get_image_features(*args: Any, **kwargs: Any) -> Any:
            if reads and not images.store.reads:
                raise RuntimeError("images were stored without showing what the method reads")
            if images.store.holds(images.keys, reads):
                self.recording = images.store.recording(images.keys)
                projected: Any = images.store.projected(images.keys)
                return BaseModelOutputWithPooling(pooler_output=projected)
            output = original(*args, **kwargs)
            images.put(output.pooler_output, self.recording)
            return output

        return get_image_features
