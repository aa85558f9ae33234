"""What became of the visual tokens of an image that a model sees in several views.

The views are a picture of crops beside one of the whole, tiles of a square image beside one of the
whole, or the image as it is. Newlines are followed, too, but lie nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import isqrt

import numpy as np

from harness.records.grids import Grid
from harness.records.record import AccuracyRecord
from harness.records.selections import Selection
from harness.tables.page.overlay import DROPPED, Ints, Patches, after, output_rows, patches


def traced(record: AccuracyRecord, place: int) -> Patches | None:
    """What became of the patches, or tokens, of a record's sample; None where it cannot be told."""
    samples = record.samples
    selections = samples.selections[place]
    if record.image_tokens:
        return patches(selections, record.image_tokens)
    shown = samples.images[place]
    images = 0 if "/" in shown else 1 + shown.count("+")
    return followed(selections, samples.grids(place), images)


def followed(selections: Sequence[Selection], grids: Sequence[Grid], images: int) -> Patches | None:
    """Follows all tokens through a sample's cuts; None where it has not exactly one image of known
    places, where tokens are no rows of the tower that cut them, or where there are only digests.
    """
    told = all(selection.kept is not None for selection in selections)
    views = _views(grids) if grids and images == 1 else ()
    if not (views and told):
        return None
    tower = [selection for selection in selections if selection.layer is None]
    later = [selection for selection in selections if selection.layer is not None]
    row = _after_tower(tower, grids) if tower else np.arange(sum(len(g.place) for g in grids))
    if row is None:
        return None
    found = Patches(row, np.where(row < 0, 0, DROPPED), int(bool(tower)), views)
    for selection in later:
        if found.row.max(initial=-1) >= selection.rows:
            return None
        found = after(found, output_rows(selection))
    return found


def _after_tower(selections: Sequence[Selection], grids: Sequence[Grid]) -> Ints | None:
    """The row that each token goes on in, -1 where it is dropped; segments without a cut stay."""
    by_segment = {selection.segment or 0: selection for selection in selections}
    rows: list[Ints] = []
    first = i = 0
    while i < len(grids):
        selection = by_segment.get(i)
        if selection is None:
            rows.append(first + np.arange(len(grids[i].place)))
            first, i = first + len(grids[i].place), i + 1
            continue
        own = _seen_by(selection, grids[i:])
        if own is None:
            return None
        moved = output_rows(selection, _order(own))
        rows.append(np.where(moved >= 0, moved + first, DROPPED)[_tower_rows(own)])
        rows[-1][_tower_rows(own) < 0] = DROPPED
        first, i = first + selection.count, i + len(own)
    return np.concatenate(rows)


def _seen_by(selection: Selection, grids: Sequence[Grid]) -> Sequence[Grid] | None:
    """The segments whose rows a stage saw; None where it saw others, or tokens without rows."""
    seen = list(accumulate(len(grid.order) for grid in grids))
    if selection.rows not in seen:
        return None
    own = grids[: seen.index(selection.rows) + 1]
    return own if all(max(grid.tower) >= 0 for grid in own) else None


def _firsts(grids: Sequence[Grid]) -> Iterator[int]:
    return accumulate((len(grid.order) for grid in grids[:-1]), initial=0)


def _tower_rows(grids: Sequence[Grid]) -> Ints:
    """Of each token, among the rows of all these segments."""
    return np.concatenate(
        [
            np.where(np.array(grid.tower) >= 0, np.array(grid.tower) + first, -1)
            for grid, first in zip(grids, _firsts(grids), strict=True)
        ]
    )


def _order(grids: Sequence[Grid]) -> Ints:
    """In which rows of all these segments go on."""
    firsts = _firsts(grids)
    return np.concatenate([np.array(g.order) + f for g, f in zip(grids, firsts, strict=True)])


def _views(grids: Sequence[Grid]) -> tuple[Ints, ...]:
    """Each view of the whole image: which token lies at each place, int64 [rows, columns]; none
    where tiles are not as many in a row as in a column.
    """
    firsts = accumulate((len(grid.place) for grid in grids[:-1]), initial=0)
    views = [_numbers(grid, first) for grid, first in zip(grids, firsts, strict=True)]
    if len(views) == 1 or any(grid.of_crops for grid in grids):
        return tuple(views)
    *tiles, whole = views
    side = isqrt(len(tiles))
    if side**2 < len(tiles):
        return ()
    rows = (np.concatenate(tiles[i : i + side], 1) for i in range(0, side**2, side))
    return np.concatenate(list(rows)), whole


def _numbers(grid: Grid, first: int) -> Ints:
    place = np.array(grid.place)
    return (first + np.flatnonzero(place >= 0)).reshape(grid.h, grid.w)
