"""The device that benchmarks run on, and what it can do at most."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import pytest
import torch


@dataclass(frozen=True)
class Machine:
    """`flops_per_second` of a matrix product and `bytes_per_second` of a copy, both measured."""

    device: torch.device
    dtype: torch.dtype
    flops_per_second: float
    bytes_per_second: float

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def floor_seconds(self, flops: float, moved: float) -> float:
        """No run that does so many FLOPs and moves so many bytes is faster."""
        return max(flops / self.flops_per_second, moved / self.bytes_per_second)


@pytest.fixture(scope="session")
def machine() -> Machine:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    dtype = torch.bfloat16 if cuda else torch.float32
    side, copied = (8192, 2**30) if cuda else (2048, 2**27)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.empty(copied, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    product = _fastest(lambda: a @ b, device)
    copy = _fastest(lambda: target.copy_(source), device)
    return Machine(device, dtype, 2 * side**3 / product, 2 * copied / copy)


def _fastest(run, device: torch.device, rounds: int = 7) -> float:
    times = []
    for _ in range(rounds):
        began = perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(perf_counter() - began)
    return min(times)


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    """The device instead of the computer's name."""
    machine_info.pop("node", None)
    machine_info["torch"] = torch.__version__
    cuda = torch.cuda.is_available()
    machine_info["device"] = torch.cuda.get_device_name() if cuda else "cpu"
    machine_info["threads"] = torch.get_num_threads()


def pytest_collection_modifyitems(items) -> None:
    # the suite's conftest takes one thread, as its models are tiny; here sizes are real
    torch.set_num_threads(torch.get_num_threads() if torch.cuda.is_available() else 2)
