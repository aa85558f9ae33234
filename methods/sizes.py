"""Budgets, and the integers that plans and costs are computed from. Knows no tensor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
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


class Newline(StrEnum):
    """Where a segment has tokens that lie off its grid."""

    NONE = "none"
    ROW = "row"  # one after each row
    END = "end"  # one after everything
    FRAME = "frame"  # the tower's CLS row, before each frame


@dataclass(frozen=True)
class Crops:
    """The crops of one image put together to a picture, from which padding was taken away again.

    `rows` × `columns` crops of `side`² tokens; the first token that is left stands in row `top`
    and column `left` of the picture.
    """

    rows: int
    columns: int
    side: int
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class Segment:
    """Visual tokens on one grid: an image, a tile or a view of one, or a video.

    `t` frames of `h` rows of `w` tokens of the language model, row by row, with `newline` tokens
    among them; `frame`: the first one's place in its video, where that has other segments before;
    `has_cls` tells whether the vision tower has a CLS row. `crops`: what the grid was
    put together from, None where it is one tower image. `resampled`: no token is made of patches of
    its own; else one is made of `merged`² patches by the tower.
    """

    h: int
    w: int
    t: int = 1
    kind: str = "image"
    has_cls: bool = True
    newline: Newline = Newline.NONE
    crops: Crops | None = None
    resampled: bool = False
    merged: int = 1
    frame: int = 0

    @property
    def tokens(self) -> int:
        """Visual tokens that the language model gets for it, unpruned."""
        return self.t * self.frame_tokens + (self.newline is Newline.END)

    @property
    def frame_tokens(self) -> int:
        """Those of each frame."""
        return self.h * self.row_tokens + (self.newline is Newline.FRAME)

    @property
    def tower_images(self) -> int:
        """Rows of the vision tower's batch that it is made of: crops, or frames."""
        return self.t if self.crops is None else self.crops.rows * self.crops.columns

    @property
    def patches(self) -> int:
        """Rows, without CLS, of each of them."""
        return self.h * self.w if self.crops is None else self.crops.side**2

    @property
    def row_tokens(self) -> int:
        """Tokens from one row's first to the next one's."""
        return self.w + (self.newline is Newline.ROW)

    def grid(self) -> tuple[tuple[int, int, int, int], ...]:
        """Of each token its crop, frame, row and column within the crop; four times −1 on newlines.

        Crop 0 is the whole image, the crops of a picture count from 1, row by row; −1 where tokens
        were resampled, whose row and column are those of the segment.
        """
        off = ((-1, -1, -1, -1),)
        places: tuple[tuple[int, int, int, int], ...] = ()
        for frame in range(self.frame, self.frame + self.t):
            places += off * (self.newline is Newline.FRAME)
            for row in range(self.h):
                places += tuple(self._place(frame, row, column) for column in range(self.w))
                places += off * (self.newline is Newline.ROW)
        return places + off * (self.newline is Newline.END)

    def _place(self, frame: int, row: int, column: int) -> tuple[int, int, int, int]:
        if self.resampled:
            return -1, frame, row, column
        if self.crops is None:
            return 0, frame, row, column
        down, row = divmod(row + self.crops.top, self.crops.side)
        across, column = divmod(column + self.crops.left, self.crops.side)
        return 1 + down * self.crops.columns + across, frame, row, column


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
