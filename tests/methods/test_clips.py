"""Which tokens are the frames of a video, and what follows for budgets."""

from __future__ import annotations

import pytest
import torch
from video_methods import IN_DECODER

from baselines.frames import evenly
from methods import Budget, InfeasibleBudgetError, PruningError, get_method
from methods.clips import clips_of
from methods.interface import Crops, Newline, Segment, Sizes

FRAMES, CPU = Segment(2, 3, 4, "video"), torch.device("cpu")


def clips(*segments: Segment) -> list[tuple[int, int, int]]:
    found = clips_of("Some", Sizes(4, segments))
    return [(clip.start, clip.frames, clip.tokens) for clip in found]


def test_a_clip_is_the_frames_of_a_video():
    image, tile = Segment(3, 3), Segment(2, 2)
    assert clips(FRAMES) == [(0, 4, 6)]
    assert clips(image, FRAMES, image, FRAMES) == [(9, 4, 6), (42, 4, 6)]
    of_qwen3 = [Segment(2, 3, 1, "video", frame=i) for i in (0, 1, 2, 0, 1)]
    assert clips(image, *of_qwen3) == [(9, 3, 6), (27, 2, 6)]
    newline = Segment(2, 3, 2, "video", newline=Newline.END)
    assert clips(newline, newline) == [(0, 2, 6), (13, 2, 6)]
    assert clips(Segment(2, 3, 2, "video", newline=Newline.FRAME)) == [(0, 2, 7)]
    assert clips(tile, tile, image, tile) == [(0, 2, 4), (8, 1, 9), (17, 1, 4)]


@pytest.mark.parametrize(
    "segment",
    [
        Segment(4, 4, crops=Crops(2, 2, 2)),
        Segment(2, 2, newline=Newline.END),
        Segment(2, 2, resampled=True),
    ],
)
def test_pictures_of_crops_are_no_frames(segment):
    with pytest.raises(PruningError, match="Some is not defined here for pictures of crops"):
        clips(Segment(2, 2), segment)
    assert clips(segment, FRAMES) == [(segment.tokens, 4, 6)]


def test_a_method_may_need_frames():
    one = Sizes(4, (Segment(6, 6),))
    with pytest.raises(InfeasibleBudgetError, match="DyCoke cannot meet 20 visual tokens"):
        get_method("dycoke").plan(Budget(20), one)


@pytest.mark.parametrize("name", IN_DECODER)
@pytest.mark.parametrize("frames", [2, 4, 5, 8, 31, 32])
def test_budgets_in_the_feasible_range_are_met_exactly(name, frames):
    image = Segment(5, 5)
    sizes = Sizes(4, (image, Segment(4, 4, frames, "video", newline=Newline.END)))
    method = IN_DECODER[name]
    low, high = method.feasible(sizes)
    assert low > 25
    for budget in {low, (low + high) // 2, high - 1}:
        assert method.plan(Budget(budget), sizes).mean_entering == budget


@pytest.mark.parametrize(("frames", "low"), [(32, 9 * 196 + 23), (8, 3 * 196 + 5)])
def test_the_least_that_dycoke_keeps(frames, low):
    sizes = Sizes(28, (Segment(14, 14, frames, "video"),))
    assert get_method("dycoke").feasible(sizes)[0] == low


def test_fewer_frames_are_spread_evenly():
    assert evenly(4, 8, CPU).tolist() == [1, 3, 5, 7]
    assert evenly(3, 8, CPU).tolist() == [1, 4, 6]
    assert evenly(1, 5, CPU).tolist() == [2]
    assert evenly(5, 5, CPU).tolist() == [0, 1, 2, 3, 4]
    assert evenly(0, 5, CPU).tolist() == []
