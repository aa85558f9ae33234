"""Peak memory sees what a run holds; the KV cache has the bytes that its shape says."""

from __future__ import annotations

import pytest
import torch

from baselines.uniform import Uniform
from baselines.unpruned import Unpruned
from harness.memory import cache_bytes, peak_bytes
from harness.models import load_model
from harness.workload import Workload
from methods import Budget, Method

MEGABYTE = 2**20


def test_peak_of_the_process() -> None:
    def hold() -> None:
        torch.ones(64 * MEGABYTE // 4)

    hold()  # what has been freed before must not hide the next run's need
    peak, kind = peak_bytes(hold, torch.device("cpu"))
    assert kind == "process"
    assert 60 * MEGABYTE < peak < 90 * MEGABYTE


def test_a_run_that_fails_is_heard() -> None:
    def fail() -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        peak_bytes(fail, torch.device("cpu"))


@pytest.mark.parametrize(("method", "tokens"), [(Unpruned(), 576), (Uniform(), 64)])
def test_cache_bytes(method: Method, tokens: int) -> None:
    workload = Workload.of(load_model("tiny", "cpu"), batch_size=2, new_tokens=2, seed=0)
    measured, prefill = cache_bytes(workload, method, Budget(tokens))
    text = workload.loaded.model.config.text_config
    rows = int(prefill.cached.sum())
    assert rows == 2 * 32 * (tokens + int(prefill.text[0]))
    assert measured == rows * 2 * text.num_key_value_heads * text.head_dim * 4
