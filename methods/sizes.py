"""Budgets, and the integers that plans and costs are computed from. Knows no tensor."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from methods.errors import PruningError


@dataclass(frozen=True)
class Budget:
    """Mean visual tokens entering a decoder layer, per sample, over all its images together.

    Either `tokens`, or `fraction` of the sample's visual tokens in (0, 1].
    """

    tokens: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.fraction is None):
            raise PruningError("a budget is either tokens or a fraction, exactly one of the two")
        value = self.tokens if self.fraction is None else self.fraction
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise PruningError(f"a budget is a positive number, not {value!r}")
        if self.fraction is not None and self.fraction > 1:
            raise PruningError(f"a budget's fraction is at most 1, not {self.fraction:g}")

    def of(self, total: int) -> Fraction:
        """The budget in tokens for a sample with `total` visual tokens, exactly."""
        if self.tokens is not None:
            return Fraction(self.tokens)
        return Fraction(self.fraction or 0).limit_denominator(10**6) * total


@dataclass(frozen=True)
class Segment:
    """One image, crop or video of a sample.

    `t`, `h`, `w` count tower patches, `merge` patches per language-model token, `extra` tokens
    that lie off the grid (newlines); `has_cls` tells whether the tower has a CLS row.
    """

    h: int
    w: int
    t: int = 1
    kind: str = "image"
    merge: int = 1
    has_cls: bool = True
    extra: int = 0

    @property
    def tokens(self) -> int:
        """Visual tokens that the language model gets for it, unpruned."""
        return self.t * self.h * self.w // self.merge + self.extra


@dataclass(frozen=True)
class ModelShape:
    """Integers that costs are computed from; one vision tower row is a patch or CLS."""

    layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    tower_layers: int  # that really run
    tower_width: int
    tower_heads: int
    tower_intermediate: int
    tower_rows: int  # per image
    patch_values: int  # channels · patch height · patch width
    projector_inner: int
    image_tokens: int  # per image


@dataclass(frozen=True)
class Sizes:
    """All that a plan may depend on: decoder layers, the sample's segments, and the place of the
    vision tower's layer whose output is used, counted from 0.
    """

    layers: int
    segments: tuple[Segment, ...]
    feature_layer: int = 22

    @property
    def tokens(self) -> int:
        return sum(segment.tokens for segment in self.segments)
