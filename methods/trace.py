"""What really happened in a prefill: counted from the tensors that the layers got."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from methods.encoding import Encoded
from methods.errors import PruningError
from methods.plan import Cut, Plan
from methods.sizes import Segment, Sizes


@dataclass(frozen=True)
class StageSelection:
    """One stage's cut for the samples `rows`; in the vision tower `segment`, the first that it is
    of, for `layer`, and how many rows of the tower it `saw`.

    The stages inside the tower are one: from the rows that enter it to those that leave it.
    """

    stage: str
    layer: int | None
    rows: tuple[int, ...]
    segment: int | None
    cut: Cut
    saw: int | None = None


TowerRows = tuple[tuple[int, int], ...]
"""Rows of one image that entered the attention, and the MLP, of each layer of the vision tower."""
ImageRows = tuple[TowerRows, ...]


@dataclass
class Prefill:
    """One prefill. Counts stay on their device until they are read."""

    plans: tuple[Plan, ...]
    sizes: tuple[Sizes, ...]
    text_counts: tuple[int, ...]
    selections: list[StageSelection] = field(default_factory=list)
    visual_by_layer: list[Tensor] = field(default_factory=list, repr=False)
    cached_by_layer: list[Tensor] = field(default_factory=list, repr=False)
    mlp_by_layer: list[Tensor] = field(default_factory=list, repr=False)
    """Empty where nothing is cut inside a layer."""
    sound: list[tuple[str, Tensor]] = field(default_factory=list, repr=False)
    asked: set[tuple[int, bool]] = field(default_factory=set, repr=False)
    """Layer, and whether before its MLP, of decoder stages that were asked: by data not all are."""
    tower_rows: list[ImageRows] = field(default_factory=list, repr=False)
    """Of each sample's images, in the order of the samples; empty where nothing is cut inside."""
    encoded: Callable[[Segment], Encoded | None] = field(default=lambda segment: None, repr=False)
    """As the model's adapter has it."""

    @property
    def entering(self) -> Tensor:
        """int64 [batch, layers]: visual tokens that entered each decoder layer."""
        return torch.stack([count.cpu() for count in self.visual_by_layer], 1)

    @property
    def into_mlp(self) -> Tensor:
        """int64 [batch, layers]: visual tokens that entered each decoder layer's MLP."""
        counts = self.mlp_by_layer or self.visual_by_layer
        return torch.stack([count.cpu() for count in counts], 1)

    @property
    def cached(self) -> Tensor:
        """int64 [batch, layers]: KV rows after the prefill without padding; 0 without a cache."""
        if not self.cached_by_layer:
            return torch.zeros_like(self.planned)
        return torch.stack([count.cpu() for count in self.cached_by_layer], 1)

    @property
    def planned(self) -> Tensor:
        """int64 [batch, layers]: what the plans promised, of one by data the sum alone."""
        return torch.tensor([plan.entering for plan in self.plans], dtype=torch.long)

    @property
    def text(self) -> Tensor:
        """int64 [batch]: tokens that are neither visual nor padding."""
        return torch.tensor(self.text_counts, dtype=torch.long)


@dataclass
class Trace:
    """The prefills since `attach`, in order."""

    prefills: list[Prefill] = field(default_factory=list)

    def check_numbers(self) -> None:
        """Raises PruningError where a stage read or ranked NaN, or read or made infinity; waits
        once.
        """
        sound = [pair for prefill in self.prefills for pair in prefill.sound]
        if not sound:
            return
        device = sound[0][1].device
        flags = torch.stack([flag.to(device) for _, flag in sound]).tolist()
        if wrong := [where for (where, _), flag in zip(sound, flags, strict=True) if not flag]:
            raise PruningError(f"{wrong[0]}: there is NaN or infinity among them")
