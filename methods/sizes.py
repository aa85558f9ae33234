"""Budgets, and the integers that plans and costs are computed from. Knows no tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from itertools import accumulate

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
class Part:
    """What of one tower image became tokens: `h` rows of `w`, each token of a patch of its own.

    The first is token `first` of its segment, and a row begins `row_tokens` after the one before;
    it is of the patch in row `top` and column `left` of tower image `image` of the segment.
    """

    first: int
    h: int
    w: int
    row_tokens: int
    image: int = 0
    top: int = 0
    left: int = 0

    @property
    def tokens(self) -> int:
        return self.h * self.w


@dataclass(frozen=True)
class Segment:
    """Visual tokens on one grid: an image, a tile or a view of one, or a video.

    `t` frames of `h` rows of `w` tokens of the language model, row by row, with `newline` tokens
    among them; `frame`: the first one's place in its video, where that has other segments before;
    `has_cls` tells whether stages see a CLS row of the vision tower. `crops`: what the grid was put
    together from, None where it is one tower image. `resampled`: no token is made of patches of its
    own; else one is made of `merged`² patches by the tower.
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
    def crop_shape(self) -> tuple[int, int]:
        """Rows and columns of patches of each of them."""
        return (self.h, self.w) if self.crops is None else (self.crops.side, self.crops.side)

    @property
    def row_tokens(self) -> int:
        """Tokens from one row's first to the next one's."""
        return self.w + (self.newline is Newline.ROW)

    @property
    def newlines(self) -> int:
        """Tokens that lie off the grid."""
        return self.tokens - self.t * self.h * self.w

    def parts(self) -> tuple[Part, ...]:
        """Of each tower image, frame or whole grid that tokens are left of, those tokens."""
        if self.crops is None or self.resampled:
            frame = self.h * self.row_tokens
            return tuple(Part(i * frame, self.h, self.w, self.row_tokens) for i in range(self.t))
        parts = []
        for image in range(self.tower_images):
            down, across = divmod(image, self.crops.columns)
            top, rows = _left_of(down, self.crops.side, self.crops.top, self.h)
            left, columns = _left_of(across, self.crops.side, self.crops.left, self.w)
            row = down * self.crops.side + top - self.crops.top
            first = row * self.row_tokens + across * self.crops.side + left - self.crops.left
            parts.append(Part(first, rows, columns, self.row_tokens, image, top, left))
        return tuple(part for part in parts if part.tokens)

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


def _left_of(crop: int, side: int, first: int, count: int) -> tuple[int, int]:
    """Of a crop's rows, or columns: the first that is left, and how many are, where `count` are
    left of the picture from its `first` on.
    """
    start, end = max(first - crop * side, 0), min(first + count - crop * side, side)
    return start, max(end - start, 0)


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
    tower_matrices: int = 0  # values of all of them, where images are of any size
    projector_matrices: int = 0  # likewise
    projected_width: int = 0  # of features as they are projected, where not `tower_width`


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

    @property
    def grids(self) -> tuple[Part, ...]:
        """The grid of each segment, `first` counted from the sample's first token."""
        whole = [Part(0, s.t * s.h, s.w, s.row_tokens) for s in self.segments]
        return self._of_sample([(part,) for part in whole])

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is left of each tower image, counted likewise."""
        return self._of_sample([segment.parts() for segment in self.segments])

    def _of_sample(self, of_segments: Sequence[Sequence[Part]]) -> tuple[Part, ...]:
        firsts = accumulate((segment.tokens for segment in self.segments), initial=0)
        return tuple(
            replace(part, first=first + part.first)
            for first, parts in zip(firsts, of_segments, strict=False)
            for part in parts
        )

    @property
    def newlines(self) -> int:
        """Tokens that lie off the grids."""
        return sum(segment.newlines for segment in self.segments)

    @property
    def images(self) -> tuple[tuple[Segment, ...], ...]:
        """The segments of each image: a view of the whole and the picture of its crops are two."""
        images: list[tuple[Segment, ...]] = []
        for segment in self.segments:
            if segment.newline is Newline.ROW and images:
                images[-1] += (segment,)
            else:
                images.append((segment,))
        return tuple(images)
