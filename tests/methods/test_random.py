"""The random control: a fair draw, and one that never changes unnoticed."""

from __future__ import annotations

import torch
from pretended_device import DEVICE, Pretended, PretendedDevice
from torch import Tensor

from methods import get_method
from methods.interface import Segment, Sizes, View

SIZES = Sizes(2, (Segment(24, 24, has_cls=True),), 1)


def kept(seed: int, items: range, tokens: int, device: torch.device | str = "cpu") -> Tensor:
    """Places int64 [items, tokens] that are drawn of 576."""
    plan = get_method("random", seed=seed).solve(tokens, SIZES)
    segments = torch.zeros(len(items), 576, dtype=torch.long, device=device)
    view = View(count=576, segments=segments, seeds=tuple(items), carry={}, reads={})
    return plan.decoder[0].select(view).cut.anchors


def flags(places: Tensor) -> Tensor:
    """float32 [items, 576]: 1 where a place is kept."""
    return torch.zeros(len(places), 576).scatter(1, places, 1.0)


def test_the_draw_is_what_it_always_was():
    assert kept(0, range(3, 4), 6).tolist() == [[220, 420, 445, 503, 507, 554]]


def test_it_depends_on_seed_and_item_and_on_nothing_else():
    together = kept(1, range(6), 64)
    assert torch.equal(together[4:5], kept(1, range(4, 5), 64))
    assert len({tuple(row.tolist()) for row in (*together, *kept(2, range(6), 64))}) == 12
    with PretendedDevice() as device:
        there = kept(1, range(6), 64, DEVICE)
    assert isinstance(there, Pretended)
    assert torch.equal(there.values, together)
    assert device.waits == []


def test_every_place_and_every_pair_of_items_has_its_share():
    """Within five standard deviations of what drawing without putting back gives."""
    items, share = 4000, 64 / 576
    drawn = flags(kept(0, range(items), 64))
    assert (drawn.sum(1) == 64).all()
    spread = (items * share * (1 - share)) ** 0.5
    assert ((drawn.sum(0) - items * share).abs() < 5 * spread).all()
    for shared in (
        (drawn[1:] * drawn[:-1]).sum(1),
        (drawn * flags(kept(1, range(items), 64))).sum(1),
    ):
        error = (64 * share * (1 - share) * (576 - 64) / 575 / len(shared)) ** 0.5
        assert abs(shared.mean() - 64 * share) < 5 * error
