"""What pruning adds to a prefill of LLaVA-1.5-7B: `pytest tests/benchmarks/test_selection.py`.

With `--benchmark-json FILE` the numbers are kept; `extra_info` has those that pytest-benchmark does
not make itself.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import pytest
import torch
from loops import cluster_by_loops
from of_images import CUTTING_ONE_IMAGE
from prefills import TEXT, Layers, PrunedPrefill, host_reads
from shapes import LLAVA_7B, ONE_IMAGE

from methods import Budget, get_method
from methods.clustering import cluster_in_reach
from methods.flops import selection_flops

BUDGET = 192
BATCHES = (1, 8)


@pytest.fixture(scope="module")
def layers(machine):
    return Layers(machine.device, machine.dtype)


@pytest.fixture(scope="module")
def unpruned_seconds(machine, layers):
    """Seconds of the 32 unpruned layers by batch size: 32 times the median of one."""
    found = {}
    for batch in BATCHES:
        prefill, times = PrunedPrefill.of(layers, get_method("random"), BUDGET, batch), []
        for _ in range(2 if machine.device.type == "cpu" else 20):
            began = perf_counter()
            prefill.run_layer()
            machine.synchronize()
            times.append(perf_counter() - began)
        found[batch] = LLAVA_7B.layers * median(times)
    return found


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", CUTTING_ONE_IMAGE)
def test_selection(benchmark, machine, layers, unpruned_seconds, name, batch):
    benchmark.group = f"selection, batch {batch}"
    method = get_method(name)
    prefill = PrunedPrefill.of(layers, method, BUDGET, batch)

    def run():
        prefill.run()
        machine.synchronize()

    benchmark.pedantic(run, rounds=5 if machine.device.type == "cpu" else 30, warmup_rounds=2)
    with host_reads() as reads:
        prefill.run()
    plan = method.plan(Budget(BUDGET), ONE_IMAGE)
    flops = batch * selection_flops(plan, ONE_IMAGE, LLAVA_7B, TEXT)
    moved = batch * states_moved(plan.entering) * machine.dtype.itemsize
    info = benchmark.extra_info
    info["method"], info["batch"], info["budget"] = name, batch, BUDGET
    info["host_reads"] = len(reads)
    info["floor_seconds"] = machine.floor_seconds(flops, moved)
    info["unpruned_prefill_seconds"] = unpruned_seconds[batch]
    if benchmark.stats is not None:
        info["share_of_prefill"] = benchmark.stats.stats.median / unpruned_seconds[batch]
    # the prompt's lengths, once a prefill; where data decide what leaves the tower, each count
    assert reads == ["tolist"] * (1 + (10 if name == "flowcut" else 0))


def states_moved(entering: tuple[int, ...]) -> int:
    """Values read and written when the states that stay are gathered after each cut."""
    steps = zip((LLAVA_7B.image_tokens, *entering), entering, strict=False)
    return sum(
        2 * (after + TEXT) * LLAVA_7B.hidden_size for before, after in steps if after < before
    )


@pytest.fixture
def one_thread():
    """Both sides of the comparison work on little at a time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def patches():
    """Keys [1, 288, 1024] that form clusters, and their places."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(30, 1024, generator=random)
    which = torch.randint(30, (288,), generator=random)
    keys = centres[which] * 0.2 + torch.randn(288, 1024, generator=random) * 0.05
    return keys[None], torch.rand(288, 2, generator=random)


@pytest.mark.usefixtures("one_thread")
def test_clustering(benchmark, patches):
    """ViTCoP's clusters of 288 patches against its formulas written down with loops."""
    benchmark.group = "ViTCoP clustering, 288 x 1024"
    keys, places = patches
    labels = benchmark.pedantic(cluster_in_reach, (keys, places, 0.18), rounds=20, warmup_rounds=2)
    began = perf_counter()
    expected = cluster_by_loops(keys[0], places, 0.18)
    benchmark.extra_info["loops_seconds"] = perf_counter() - began
    assert labels[0].tolist() == expected
    if benchmark.stats is not None:
        ratio = benchmark.extra_info["loops_seconds"] / benchmark.stats.stats.median
        benchmark.extra_info["times_faster"] = ratio
        assert ratio >= 20
