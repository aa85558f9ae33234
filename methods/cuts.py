"""Cuts put side by side and in another order: pure functions of methods."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import pad

from methods.errors import PruningError
from methods.plan import Cut
from methods.sizes import Crops, Segment


def place_in_picture(patch: Tensor, crop: int, crops: Crops) -> Tensor:
    """Where patches int64 [b, n] of crop number `crop`, from 0, lie in the picture, row by row."""
    down, across = divmod(crop, crops.columns)
    row, column = down * crops.side + patch // crops.side, patch % crops.side
    return (row * crops.columns + across) * crops.side + column


def in_order_of_picture(cuts: Sequence[Cut], dominant: Sequence[int], segment: Segment) -> Cut:
    """One cut of all rows of a picture's crops, of which each has CLS, if any, and patches first,
    together `dominant`: these patches row by row of the picture, then CLS rows, then what else
    there is.
    """
    crops, cls = segment.crops, int(segment.has_cls)
    assert crops is not None
    patches, places = segment.tower_images * segment.patches, []
    for i, (cut, count) in enumerate(zip(cuts, dominant, strict=True)):
        place = place_in_picture(cut.anchors - cls, i, crops)
        place[:, :cls], place[:, count:] = patches, patches + 1
        places.append(place)
    whole = joined(cuts, [segment.patches + cls] * len(cuts))
    return reordered(whole, torch.cat(places, 1).argsort(dim=1, stable=True))


def joined(cuts: Sequence[Cut], lengths: Sequence[int]) -> Cut:
    """One cut that merges rows that follow one another: cut i is of the next `lengths[i]`."""
    firsts = list(accumulate(lengths, initial=0))
    anchors = torch.cat([c.anchors + first for c, first in zip(cuts, firsts, strict=False)], 1)
    add_anchor = torch.cat([_present(cut.add_anchor) for cut in cuts], 1)
    if cuts[0].weights is None:
        starts = accumulate((cut.anchors.shape[1] for cut in cuts), initial=0)
        of_cuts = zip(cuts, starts, strict=False)
        groups = [_moved(_present(cut.groups), start) for cut, start in of_cuts]
        return Cut(anchors, torch.cat(groups, 1), add_anchor)
    weights = [
        pad(_present(cut.weights), (first, firsts[-1] - first - length))
        for cut, first, length in zip(cuts, firsts, lengths, strict=False)
    ]
    return Cut(anchors, None, add_anchor, torch.cat(weights, 1))


def reordered(cut: Cut, order: Tensor) -> Cut:
    """The cut by groups whose row i is what row `order[i]` int64 [b, out] was."""
    old, became = _present(cut.groups), order.argsort(1)
    groups = torch.where(old < 0, -1, became.gather(1, old.clamp(min=0)))
    return Cut(cut.anchors.gather(1, order), groups, _present(cut.add_anchor).gather(1, order))


def _moved(groups: Tensor, by: int) -> Tensor:
    return torch.where(groups < 0, -1, groups + by)


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise PruningError("a cut that merges has groups or weights, and add_anchor")
    return tensor
