"""Computed FLOPs of vision towers, projectors and selections in them against torch's counter."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest
import torch
from tiny_families import FAMILIES, alone
from tower_methods import IN_TOWER, OWN_IMAGES
from video_prompts import OWN_VIDEOS, Parts

from harness.efficiency.cell import stage_names
from harness.efficiency.clocks import FlopWatch
from harness.efficiency.trackers.kernels import flop_counter
from harness.models.shapes import recorded_shape, shape_of
from harness.records import cost
from harness.records.counted import ledgers_of
from harness.records.ledger import ledger_of, mean_prefill_flops
from methods import Budget, attach, get_method
from methods.trace import Prefill

IMAGES = (
    *("llava_next", "onevision", "onevision_crops", "internvl", "idefics3", "smolvlm"),
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
)
VIDEOS = (
    *("onevision_with_video", "llava_next_video", "internvl_frames"),
    *("qwen2_vl_video", "qwen2_5_vl_both", "qwen3_vl_video"),
)


def counted(
    family: str, name: str, own: Mapping[str, Mapping[int, Parts]] = OWN_IMAGES
) -> tuple[Mapping[str, int], Prefill]:
    """FLOPs of a prefill by phase, and the prefill; of one prompt, where its `own` are known."""
    model, inputs = FAMILIES[family]()
    if family in own:  # rows of a batch are padded, and padding is counted
        inputs = alone(inputs, 0, own[family][0])
    counter = flop_counter()
    clock, budget = FlopWatch(torch.device("cpu"), counter), Budget(fraction=0.5)
    with counter, attach(model, get_method(name), budget, clock=clock) as trace, torch.no_grad():
        model.generate(**inputs, do_sample=False, max_new_tokens=1)
    flops = {phase: int(sum(own)) for phase, own in clock.seconds().items()}
    return flops, trace.prefills[-1]


@pytest.mark.parametrize("family", [*IMAGES, *VIDEOS])
def test_tower_and_projector_are_what_torchs_counter_counts(family: str) -> None:
    found, prefill = counted(family, "unpruned")
    model, _ = FAMILIES[family]()
    rows, shape = ledgers_of(prefill, shape_of(model)), recorded_shape(model)
    assert found["vision_tower"] == pytest.approx(sum(r["tower_flops"] for r in rows), rel=0.01)
    projected = sum(row["projected"] for row in rows)
    assert found.get("projector", 0) == (projected and cost.projector_flops(shape, projected))


SELECTING = [
    *((family, name) for family in OWN_IMAGES for name in IN_TOWER[family]),
    *(("qwen2_5_vl", name) for name in IN_TOWER["qwen2_5_vl"]),
    *product(("onevision_videos", "qwen2_5_vl_both"), ("visionzip", "vitcop")),
]


@pytest.mark.parametrize(("family", "name"), SELECTING)
def test_selections_in_the_tower_are_what_torchs_counter_counts(family: str, name: str) -> None:
    found, prefill = counted(family, name)
    rows = ledgers_of(prefill, shape_of(FAMILIES[family]()[0]))
    assert found["selection"] == pytest.approx(sum(r["selection_flops"] for r in rows), rel=0.01)


@pytest.mark.parametrize("family", ["onevision_videos", "video_llava", "internvl_frames"])
def test_layers_that_are_cut_inside_are_what_torchs_counter_counts(family: str) -> None:
    """Their attention and their MLP have different rows, and data decide which layers are cut."""
    found, prefill = counted(family, "framefusion", OWN_VIDEOS)
    model, _ = FAMILIES[family]()
    (row,), shape = ledgers_of(prefill, shape_of(model)), recorded_shape(model)
    assert row["by_data"]
    assert row["mlp"] == [*row["entering"][1:], row["entering"][-1]]
    (ledger,) = ledger_of([row])
    expected = mean_prefill_flops([ledger], shape)
    assert found["prefill"] == pytest.approx(expected - row["selection_flops"], rel=0.01)
    assert found["selection"] == pytest.approx(row["selection_flops"], rel=0.01)
    cut = {f"fuse@{selection.layer - 1}" for selection in prefill.selections}
    assert cut <= set(stage_names(prefill))
    plain = cost.prefill_flops(shape, row["entering"], row["text"])
    assert found["prefill"] != pytest.approx(plain, rel=0.02)
