"""The vision encoder while a method is attached: its calls, and what is seen of it or cut in it."""

from __future__ import annotations

from collections.abc import Sequence

from methods.clock import Clock
from methods.encoded_batches import SharedBatch
from methods.encoder_calls import EncoderCalls
from methods.family import Adapter
from methods.inside_tower import InsideTower
from methods.merged_tower import MergedWatch, MergingTower
from methods.method import Method
from methods.sharing import SharedImages
from methods.sizes import Budget
from methods.tower_family import TowerAdapter, with_tower
from methods.tower_views import Recording
from methods.tower_watch import TowerWatch
from methods.trace import Prefill


class Vision:
    """`calls`; `batch`, whose outputs are shared as they are; `inside`, for a method that cuts
    between the tower's layers; `watches`, for one that reads of the tower.
    """

    def __init__(
        self,
        adapter: Adapter,
        clock: Clock,
        method: Method,
        budget: Budget,
        seeds: Sequence[int] | None,
        images: SharedImages | SharedBatch | None,
    ) -> None:
        self.adapter, self.method = adapter, method
        self.batch = images if isinstance(images, SharedBatch) else None
        images = images if isinstance(images, SharedImages) else None
        self.calls = EncoderCalls(self.adapter)
        self.inside: InsideTower | None = None
        self.watches: tuple[TowerWatch | MergedWatch, ...] = ()
        if method.inside_tower:
            tower = with_tower(self.adapter, method.label, crops=False)
            self.inside = InsideTower(tower, clock, method, budget, seeds)
            images = None  # what is cut inside the tower is one method's own
        if images is not None or method.tower_reads:
            self.watches = self._watches(images)

    def _watches(self, images: SharedImages | None) -> tuple[TowerWatch | MergedWatch, ...]:
        """Of tokens, where the tower shows those, and of its rows for what it does not show so."""
        method, adapter = self.method, self.adapter
        watches: tuple[TowerWatch | MergedWatch, ...] = ()
        crops = method.crops and images is None
        if images is None and method.merged_reads and isinstance(adapter, MergingTower):
            watches = (MergedWatch(adapter, method.merged_reads, lambda: self.calls.within),)
            rows = isinstance(adapter, TowerAdapter) and (crops or not adapter.crops)
            if not rows or "image" in adapter.shown_kinds:
                return watches
        needs = method.label if method.tower_reads else "sharing what the vision tower made"
        tower = with_tower(adapter, needs, crops)
        return *watches, TowerWatch(tower, method, self.calls, images)

    def recording(self, prefill: Prefill) -> Recording | None:
        """What the tower showed of the images and videos of prompts that ask for it."""
        asking = [
            sizes for sizes, plan in zip(prefill.sizes, prefill.plans, strict=True) if plan.encoder
        ]
        present = {segment.kind for sizes in asking for segment in sizes.segments}
        if not present:
            return None
        encoded = {
            kind: [segment for own in self.calls.encoded.get(kind, ()) for segment in own]
            for kind in present
        }
        shown = (watch.recording_of(encoded) for watch in self.watches)
        return next((recording for recording in shown if recording is not None), None)
