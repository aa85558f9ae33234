"""Where a sample's visual tokens lie in its image, as records hold it of images of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from harness.records.form import MOST_ROWS

if TYPE_CHECKING:
    from methods.sizes import Segment, Sizes


@dataclass(frozen=True)
class Grid:
    """`h` × `w` tokens of a view of an image. Of each token its `place` on the grid, row by row,
    and its row of the vision `tower`, -1 where it has none; of each of the tower's rows its place
    in the `order` in which those that are kept go on. `of_crops`: it was put together from them.
    """

    h: int
    w: int
    place: tuple[int, ...]
    tower: tuple[int, ...]
    order: tuple[int, ...]
    of_crops: bool


def grid_bodies(sizes: Sizes) -> list[dict[str, Any]]:
    """Of each segment of a sample; none where one is a video's."""
    if any(segment.kind == "video" for segment in sizes.segments):
        return []
    return [_body(segment) for segment in sizes.segments]


def _body(segment: Segment) -> dict[str, Any]:
    body = {"h": segment.h, "w": segment.w, "newline": str(segment.newline)}
    if segment.has_cls:
        body["has_cls"] = True
    if segment.crops is not None:
        body |= {"crops": list(astuple(segment.crops)), "resampled": segment.resampled}
    return body


def grids_of(bodies: Sequence[Mapping[str, Any]]) -> tuple[Grid, ...]:
    """Of a sample; empty where it has none that can be drawn."""
    if sum(map(_most, bodies)) > MOST_ROWS:
        return ()
    found = tuple(map(_grid, bodies))
    drawn = all(max(grid.tower) < len(grid.order) for grid in found)
    return found if drawn else ()


def _most(body: Mapping[str, Any]) -> int:
    """Tokens, and rows of the tower, at the most."""
    rows, columns, side = body.get("crops", (0, 0, 0))[:3]
    return int(2 * body["h"] * body["w"] + rows * columns * (side**2 + 1))


def _grid(body: Mapping[str, Any]) -> Grid:
    from methods.sizes import Crops, Newline, Segment

    crops = Crops(*body["crops"]) if "crops" in body else None
    segment = Segment(
        body["h"],
        body["w"],
        has_cls=body.get("has_cls", False),
        newline=Newline(body["newline"]),
        crops=crops,
        resampled=body.get("resampled", False),
    )
    cells = segment.grid()
    on_grid = [row >= 0 for _, _, row, _ in cells]
    numbers = iter(range(segment.h * segment.w))
    return Grid(
        segment.h,
        segment.w,
        tuple(next(numbers) if on else -1 for on in on_grid),
        tuple(_tower_row(segment, crop, row, column) for crop, _, row, column in cells),
        _order(segment),
        crops is not None,
    )


def _tower_row(segment: Segment, crop: int, row: int, column: int) -> int:
    """-1 for a newline, and for a token that is made of no patches of its own."""
    if row < 0 or segment.resampled:
        return -1
    first, (_, side) = int(segment.has_cls), segment.crop_shape
    return max(crop - 1, 0) * (segment.patches + first) + first + row * side + column


def _order(segment: Segment) -> tuple[int, ...]:
    """Rows of crops go on row by row of the picture, CLS rows before them."""
    first, (high, wide) = int(segment.has_cls), segment.crop_shape
    columns = 1 if segment.crops is None else segment.crops.columns
    order: list[int] = []
    for image in range(segment.tower_images):
        down, across = divmod(image, columns)
        order += [-1] * first
        order += [
            (down * high + row) * columns * wide + across * wide + column
            for row in range(high)
            for column in range(wide)
        ]
    return tuple(order)
