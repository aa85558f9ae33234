"""Peak memory sees what a run holds; the KV cache has the bytes that its shape says."""

from __future__ import annotations

from contextlib import nullcontext
from time import sleep

import pytest
import torch

from baselines.uniform import Uniform
from baselines.unpruned import Unpruned
from harness.efficiency.trackers import memory
from harness.efficiency.trackers.memory import cache_bytes, peaks, weight_bytes
from harness.efficiency.workload import Load, Workload
from harness.models.load import load_model
from methods import Budget, Method

MEGABYTE = 2**20


def hold(megabytes: int) -> None:
    held = torch.ones(megabytes * MEGABYTE // 4)
    sleep(0.05)  # long enough to be seen
    del held


def test_peaks_of_the_process() -> None:
    def run(clock) -> None:
        hold(64)
        clock.stop("prefill")
        hold(128)

    hold(128)  # what has been freed before must not hide the next run's need
    found = peaks(run, torch.device("cpu"))
    assert found["peak_kind"] == "process"
    assert 60 * MEGABYTE < found["prefill_peak_bytes"] < 90 * MEGABYTE
    assert 120 * MEGABYTE < found["decode_peak_bytes"] < 160 * MEGABYTE
    assert found["peak_bytes"] == found["decode_peak_bytes"]


def test_shared_weights_count_once() -> None:
    layer = torch.nn.Linear(8, 8, bias=False)
    assert weight_bytes(torch.nn.Sequential(layer, layer)) == 8 * 8 * 4


def test_a_run_that_fails_is_heard() -> None:
    def fail(clock) -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        peaks(fail, torch.device("cpu"))


@pytest.mark.parametrize(("method", "tokens"), [(Unpruned(), 576), (Uniform(), 64)])
def test_cache_bytes(method: Method, tokens: int) -> None:
    workload = Workload.of(load_model("tiny", "cpu"), Load(batch_size=2, new_tokens=2))
    measured, prefill = cache_bytes(workload, method, Budget(tokens))
    text = workload.loaded.model.config.text_config
    rows = int(prefill.cached.sum())
    assert rows == 2 * 32 * (tokens + int(prefill.text[0]))
    assert measured == rows * 2 * text.num_key_value_heads * text.head_dim * 4


def test_a_process_that_gives_memory_back_rose_by_nothing(monkeypatch):
    """A negative peak would be no record that a reader takes."""

    class Falling:
        resident = iter((100, 60, 40))

        def take(self):
            return next(self.resident)

    monkeypatch.setattr(memory, "_watching", lambda device: nullcontext(Falling()))
    found = memory.peaks(lambda clock: clock.stop("prefill"), torch.device("cpu"))
    assert [value for key, value in found.items() if key != "peak_kind"] == [0, 0, 0]
