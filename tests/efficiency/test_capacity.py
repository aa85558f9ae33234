"""The largest batch is found by halving, doubling and narrowing down."""

from __future__ import annotations

import pytest
import torch

from harness.efficiency import capacity
from harness.efficiency.workload import Load
from harness.models.load import load_model
from methods import Budget, get_method


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 63, 64, 65, 100, 1000])
def test_search(largest: int) -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= largest

    assert capacity.search(fits, first=64) == largest
    assert len(tried) == len(set(tried)) <= 16


def test_a_run_that_finds_no_memory_is_a_batch_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(run, device):
        run(None)
        return {"peak_bytes": 0}

    def answer(probe, *_):
        if probe.workload.load.batch_size > 2:
            raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(capacity, "peaks", planted)
    monkeypatch.setattr(capacity.Probe, "run", answer)
    loaded = load_model("random:tiny", "cpu")
    asked = (loaded, get_method("fastv"), Budget(64), Load())
    assert capacity.largest_batch(*asked, memory_gib=1) == 2
    assert capacity.largest_batch(*asked, memory_gib=0.001) == 0  # less than the weights
