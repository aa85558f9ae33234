"""What the device can do: rate of a large matrix product and of a large copy, measured."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from harness.efficiency.clocks import Stopwatch
from harness.efficiency.trackers import Tracker, tracker
from harness.models.load import LoadedModel

_REPEATS = 10
_WARMUPS = 3
_SIDE = {"cuda": 8192, "cpu": 1024}
_COPY_BYTES = {"cuda": 2**30, "cpu": 2**27}


@tracker
class Rates(Tracker):
    """Of the run what the device can do at best."""

    def before(self, loaded: LoadedModel) -> dict[str, Any]:
        return {"rates": device_rates(loaded.model.device, loaded.model.dtype)}


def device_rates(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """FLOPs a second of a square product in `dtype`; bytes a second, read plus written, of a copy.

    On random values: zeros draw less power and run faster than data does.
    """
    side, size = _SIDE[device.type], _COPY_BYTES[device.type]
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2)
    )
    product = torch.empty_like(left)
    matrix = _median_seconds(lambda: torch.mm(left, right, out=product), device)
    source = torch.randint(2**30, (size // 4,), dtype=torch.int32, device=device)
    target = torch.empty_like(source)
    copy = _median_seconds(lambda: target.copy_(source), device)
    return {
        "flops_per_second": 2 * side**3 / matrix,
        "bytes_per_second": 2 * size / copy,
        "matrix_side": side,
        "copied_bytes": size,
    }


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    for _ in range(_WARMUPS):
        work()
    clock = Stopwatch(device)
    for _ in range(_REPEATS):
        clock.start("work")
        work()
        clock.stop("work")
    return median(clock.seconds()["work"])
