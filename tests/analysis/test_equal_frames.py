"""How many frames unpruned takes in a method's time, against numbers worked out by hand."""

from __future__ import annotations

from math import isnan

import pytest
from from_bodies import made
from synthetic_records import SHAPE, efficiency, efficiency_cell
from table_rows import row

from harness.analysis.equal_frames import equal_frames
from harness.records import cost
from harness.records.record import EfficiencyRecord

FRAMES, OF_A_FRAME, TEXT = 32, 18, 10
DECODER = {k: v for k, v in SHAPE.items() if not k.startswith(("tower", "projector"))}
WEIGHTS = {"tower_matrices": 10**6, "projector_matrices": 10**3}


def prefill(frames: int, causal: bool = True) -> float:
    """With half of the attention where its kernels are causal."""
    rows, queries = OF_A_FRAME * frames + TEXT, SHAPE["attention_heads"] * SHAPE["head_dim"]
    whole = cost.prefill_flops(SHAPE, [OF_A_FRAME * frames] * SHAPE["layers"], TEXT)
    return whole - causal * SHAPE["layers"] * (4 * rows * rows * queries) / 2


def run(share: float, tower: float, **identity: object) -> EfficiencyRecord:
    """FastV takes this share of unpruned's time; `tower`: FLOPs of a frame."""
    cells = [efficiency_cell("unpruned", None, 1.0), efficiency_cell("fastv", 64, share)]
    for cell, seconds in zip(cells, (1.0, share), strict=True):
        cell["raw_seconds"] |= {"prefill": [seconds] * 3, "selection": [0.0] * 3}
        cell["raw_seconds"] |= {"vision_tower": [0.0] * 3, "projector": [0.0] * 3}
        whole = cell["budget"] is None
        (own,) = cell["ledger"]
        entering = [OF_A_FRAME * FRAMES if whole else 64] * SHAPE["layers"]
        own |= {"entering": entering, "planned": entering, "text": TEXT}
        own |= {"cached": [n + TEXT for n in entering], "visual": OF_A_FRAME * FRAMES}
        own |= {"tower_flops": tower * FRAMES, "projected": 0}
    body = efficiency(cells)
    body["identity"] |= {"frames": FRAMES, **identity}
    (record,) = made([{**body, "shape": {**DECODER, **WEIGHTS}}])
    assert isinstance(record, EfficiencyRecord)
    return record


def frames(record: EfficiencyRecord) -> float:
    upper, ours = record.cells
    found = equal_frames(ours, upper, record)
    assert found.low == found.value == found.high  # all rounds are alike
    return found.value


@pytest.mark.parametrize("tower", [0.0, 1e6])
@pytest.mark.parametrize("count", [1, 7, 31, 32, 40])
def test_the_time_of_so_many_frames_is_that_of_so_many(count: int, tower: float) -> None:
    exactly = (count * tower + prefill(count)) / (FRAMES * tower + prefill(FRAMES))
    assert frames(run(exactly * 1.0001, tower)) == count
    assert frames(run(exactly * 0.9999, tower)) == count - 1


def test_eager_attention_skips_nothing() -> None:
    whole = prefill(7, causal=False) / prefill(FRAMES, causal=False)
    assert frames(run(whole * 1.0001, 0.0, attention="eager")) == 7
    assert frames(run(whole * 1.0001, 0.0)) < 7


def test_a_tower_that_costs_more_leaves_fewer_frames() -> None:
    """Half the time is half of the frames where the tower is all, more where attention is."""
    assert frames(run(0.5, 1e15)) == 16
    assert frames(run(0.5, 0.0)) > 16


def test_of_images_and_of_an_unknown_tower_nothing_is_said() -> None:
    images, known = run(0.5, 1e6, frames=None), run(0.5, 1e6)
    assert isnan(equal_frames(images.cells[1], images.cells[0], images).value)
    unknown = made([{**known.body, "shape": DECODER}])[0]
    assert isnan(equal_frames(unknown.cells[1], unknown.cells[0], unknown).value)
    assert row([known], "FastV")["equal_frames"] == str(int(frames(known)))
    assert row([known], "Unpruned")["equal_frames"] == ""
    assert row([images], "FastV")["equal_frames"] == ""
