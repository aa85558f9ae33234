"""The kernel that every other benchmark is measured by, so that machines and their load cancel."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.benchmark(group="reference")
def test_reference(benchmark):
    """A product and a gather in float32, of the sizes that a selection works on."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(576, 1024, generator=generator)
    weight = torch.randn(1024, 1024, generator=generator)
    kept = torch.randperm(576, generator=generator)[:64]
    rows = benchmark(lambda: (states @ weight)[kept])
    assert rows.shape == (64, 1024)
