"""Interleaved rounds: phases add up, and each holds what happened in it and nothing else."""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from time import sleep

import pytest
import torch

from baselines.uniform import Uniform
from harness.cells import Cell
from harness.models import LoadedModel, load_model
from harness.stopwatch import Stopwatch
from harness.timing import ONCE, WARMUPS, measure, time_run
from harness.workload import Workload
from methods import Plan, Sizes, View, registry

CELLS = [Cell.parse(text) for text in ("unpruned", "uniform@64", "vitcop@2", "broken@64")]
NAP = 0.2


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("tiny", "cpu")


@dataclass(frozen=True)
class Broken(Uniform):
    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        raise MemoryError("no room")


@dataclass(frozen=True)
class Sleepy(Uniform):
    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        plan = super().solve(budget, sizes)
        stage = plan.decoder[0]

        def select(view: View):
            sleep(NAP)
            return stage.select(view)

        return replace(plan, decoder=(replace(stage, select=select),))


@pytest.fixture(scope="module")
def measured(loaded: LoadedModel):
    with pytest.MonkeyPatch.context() as patch:
        registry.methods()
        patch.setitem(registry._METHODS, "broken", Broken)
        heard: list[tuple[int, int]] = []
        result = measure(
            loaded,
            CELLS,
            repeats=3,
            batch_size=2,
            new_tokens=4,
            on_round=lambda done, total: heard.append((done, total)),
        )
    return result, heard


def test_phases_add_up_to_less_than_the_whole(measured) -> None:
    result, _ = measured
    for cell in result["cells"][:2]:
        raw = cell["raw_seconds"]
        for number in range(3):
            parts = sum(raw[phase][number] for phase in ONCE) + sum(raw["decode"][number])
            assert 0.5 * raw["end_to_end"][number] < parts <= raw["end_to_end"][number]
            assert len(raw["decode"][number]) == 4 - 1
        assert all(min(raw[phase]) > 0 for phase in ("vision_tower", "projector", "prefill"))
        assert len(cell["warmup_seconds"]["end_to_end"]) == WARMUPS
    unpruned, uniform = (cell["raw_seconds"] for cell in result["cells"][:2])
    assert max(unpruned["selection"]) == 0 < min(uniform["selection"])
    assert median(unpruned["prefill"]) > median(uniform["prefill"])


def test_counts_and_memory_are_measured(measured) -> None:
    unpruned, uniform = measured[0]["cells"][:2]
    assert [row["samples"] for row in uniform["ledger"]] == [2]
    assert set(uniform["ledger"][0]["entering"]) == {64}
    assert uniform["peak_kind"] == ("device" if torch.cuda.is_available() else "process")
    assert uniform["kv_cache_bytes"] < unpruned["kv_cache_bytes"]


def test_a_cell_that_fails_or_cannot_be_does_not_stop_the_others(measured) -> None:
    result, _ = measured
    assert [cell["status"] for cell in result["cells"]] == ["ok", "ok", "infeasible", "failed"]
    assert result["cells"][2]["feasible"][0] > 2
    assert result["cells"][3]["reason"] == "MemoryError: no room"


def test_every_round_runs_every_cell_that_works(measured) -> None:
    result, heard = measured
    assert [sorted(order) for order in result["order"]] == [[0, 1]] * 3
    assert heard == [(n + 1, 3 + WARMUPS) for n in range(3 + WARMUPS)]
    assert gc.isenabled()


def test_what_a_selection_takes_is_in_no_other_phase(loaded: LoadedModel) -> None:
    cell = CELLS[1]
    workload = Workload.of(loaded, 1, 3, seed=0)
    slow = [time_run(workload, Sleepy(), cell) for _ in range(3)]
    assert min(run["selection"] for run in slow) >= NAP
    assert min(run["end_to_end"] for run in slow) >= NAP
    for phase in ("vision_tower", "projector", "prefill"):
        assert min(run[phase] for run in slow) < NAP
    assert min(max(run["decode"]) for run in slow) < NAP


def test_stopwatch_takes_inner_phases_out() -> None:
    clock = Stopwatch(torch.device("cpu"))
    clock.start("outer")
    for _ in range(2):
        clock.start("inner")
        sleep(0.02)
        clock.stop("inner")
    clock.stop("outer")
    seconds = clock.seconds()
    assert len(seconds["inner"]) == 2
    assert min(seconds["inner"]) >= 0.02
    assert seconds["outer"][0] < 0.02


def test_stopwatch_refuses_phases_that_cross() -> None:
    clock = Stopwatch(torch.device("cpu"))
    clock.start("outer")
    clock.start("inner")
    with pytest.raises(RuntimeError, match="'outer' ends"):
        clock.stop("outer")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_stopwatch_on_a_gpu_times_the_device_without_waiting() -> None:
    clock = Stopwatch(torch.device("cuda"))
    clock.start("outer")
    clock.start("inner")
    torch.cuda._sleep(200_000_000)
    clock.stop("inner")
    clock.stop("outer")
    seconds = clock.seconds()
    assert seconds["inner"][0] > 0.02 > seconds["outer"][0]


@pytest.mark.slow
def test_timing_needs_no_lmms_eval() -> None:
    code = "import sys, harness.timing; sys.exit('lmms_eval' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
