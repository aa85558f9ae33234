"""Interleaved rounds: phases add up, and each holds what happened in it and nothing else."""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from time import sleep
from typing import ClassVar

import numpy as np
import pytest
import torch
from from_bodies import timed

from baselines.uniform import Uniform
from harness.analysis.speed import coverage
from harness.efficiency import cell as timed_cell
from harness.efficiency import clocks as stopwatch
from harness.efficiency.cell import WARMUPS, stage_names, time_run
from harness.efficiency.clocks import Stopwatch
from harness.efficiency.instrument import Efficiency
from harness.efficiency.rounds import MOST_WARMUPS, UnprunedError
from harness.efficiency.trackers.kernels import counted_flops
from harness.efficiency.workload import Load, Workload
from harness.errors import BadInput
from harness.models.load import LoadedModel, load_model
from harness.records.cell import Cell
from harness.records.phases import ONCE
from methods import Budget, Plan, Selection, Sizes, View, get_method, registry
from methods.adapters import adapter_for
from methods.interface import MechanismError

NAMES = ("unpruned", "uniform@64", "vitcop@2", "broken@64", "greedy@64")
CELLS = [Cell.parse(text) for text in NAMES]
LOAD = Load(batch_size=2, new_tokens=4)
NAP = 0.02


def unheard(doing: str, number: int, total: int) -> None:
    """Of what nobody waits for."""


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("random:tiny", "cpu")


@dataclass(frozen=True)
class Broken(Uniform):
    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        raise MemoryError("no room")


@dataclass(frozen=True)
class Greedy(Uniform):
    """Finds no memory in its third run."""

    runs: ClassVar[int] = 0

    def plan(self, *sizes_and_budget) -> Plan:
        Greedy.runs += 1
        if Greedy.runs == 3:
            raise torch.OutOfMemoryError("planted")
        return super().plan(*sizes_and_budget)


@dataclass(frozen=True)
class Sleepy(Uniform):
    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        plan = super().solve(budget, sizes)
        stage = plan.decoder[0]

        def select(view: View):
            sleep(NAP)
            return stage.select(view)

        return replace(plan, decoder=(replace(stage, select=select),))


@dataclass(frozen=True)
class Idle(Uniform):
    """Promises tokens and cuts nothing."""

    def solve(self, budget: Fraction, sizes: Sizes) -> Plan:
        plan = super().solve(budget, sizes)
        return replace(plan, decoder=(replace(plan.decoder[0], select=lambda _: Selection()),))


@pytest.fixture(scope="module")
def measured(loaded: LoadedModel):
    with pytest.MonkeyPatch.context() as patch:
        registry.methods()
        patch.setitem(registry._METHODS, "broken", Broken)
        patch.setitem(registry._METHODS, "greedy", Greedy)
        patch.setattr("methods.generation.planned", lambda m, budget, own: m.plan(budget, own))
        heard: list[tuple[str, int, int]] = []
        result = Efficiency(loaded, LOAD, 3).timed(CELLS, lambda *step: heard.append(step))
    return result, heard


@pytest.fixture
def _only_naps_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setitem(globals(), "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    for module in (stopwatch, timed_cell):
        monkeypatch.setattr(module, "perf_counter", lambda: now[0])


def test_phases_add_up_to_the_whole(measured) -> None:
    result, _ = measured
    for cell in result["cells"][:2]:
        raw = cell["raw_seconds"]
        for number in range(3):
            parts = sum(raw[phase][number] for phase in ONCE)
            parts += sum(raw["decode"][number]) + sum(raw["between_tokens"][number])
            assert parts <= raw["end_to_end"][number]
            assert len(raw["decode"][number]) == len(raw["between_tokens"][number]) == 4 - 1
            assert sum(raw["stages"][number]) == pytest.approx(raw["selection"][number])
        found = coverage(timed({**cell, "method": {"label": "any"}}))
        assert 0.9 < found <= 1  # of a model this small much is not computation
        assert all(min(raw[phase]) > 0 for phase in ("vision_tower", "projector", "prefill"))
        assert WARMUPS <= len(cell["warmup_seconds"]["end_to_end"]) <= MOST_WARMUPS
        assert cell["attention"] == measured[0]["cells"][0]["attention"]
        assert cell["attention"]["operators"][0].startswith("aten::_scaled_dot_product_flash")
    unpruned, uniform = (cell["raw_seconds"] for cell in result["cells"][:2])
    assert max(unpruned["selection"]) == 0 < min(uniform["selection"])
    assert median(unpruned["prefill"]) > median(uniform["prefill"])


def test_counts_and_memory_are_measured(measured) -> None:
    unpruned, uniform = measured[0]["cells"][:2]
    assert [row["samples"] for row in uniform["ledger"]] == [2]
    assert set(uniform["ledger"][0]["entering"]) == {64}
    assert uniform["peak_kind"] == ("device" if torch.cuda.is_available() else "process")
    assert uniform["kv_cache_bytes"] < unpruned["kv_cache_bytes"]
    assert uniform["decode_peak_bytes"] >= uniform["prefill_peak_bytes"] > 0
    assert measured[0]["rates"]["flops_per_second"] > 1e9
    assert len(measured[0]["stock_seconds"]) == 3


def test_decoding_is_timed_at_equal_context_too(measured) -> None:
    uniform = measured[0]["cells"][1]
    (plain,) = measured[0]["equal_context"]
    assert set(uniform["ledger"][0]["cached"]) == {plain["rows"]} == {64 + LOAD.prompt_tokens}
    assert plain["status"] == "ok"
    assert [len(steps) for steps in plain["decode"]] == [LOAD.new_tokens - 1] * 3


def test_a_cell_that_fails_or_cannot_be_does_not_stop_the_others(measured) -> None:
    result, _ = measured
    statuses = [cell["status"] for cell in result["cells"]]
    assert statuses == ["ok", "ok", "infeasible", "failed", "out_of_memory"]
    assert result["cells"][4]["reason"] == "out of memory at batch 2"
    assert result["cells"][2]["feasible"][0] > 2
    assert result["cells"][3]["reason"] == "MemoryError: no room"


def test_a_broken_plan_fails_its_cell_in_the_first_run(loaded, monkeypatch) -> None:
    monkeypatch.setitem(registry._METHODS, "idle", Idle)
    cells = [*CELLS[:2], Cell.parse("idle@64")]
    result = Efficiency(loaded, LOAD, 1).timed(cells, unheard)
    assert [cell["status"] for cell in result["cells"]] == ["ok", "ok", "failed"]
    idle = result["cells"][2]
    reason = "BrokenPromiseError: 576 visual tokens entered layer 0, planned were 64"
    assert (idle["reason"], idle["warmup_seconds"]["prefill"]) == (reason, [])
    assert [sorted(order) for order in result["order"]] == [[0, 1, 3]]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ValueError("planted"), UnprunedError), (MechanismError("planted"), MechanismError)],
)
def test_without_unpruned_nothing_else_is_timed(loaded, monkeypatch, error, raised) -> None:
    heard: list[str] = []

    def failing(method, budget, sizes):
        heard.append(method.name)
        raise error

    monkeypatch.setattr("methods.generation.planned", failing)
    with pytest.raises(raised, match="planted"):
        Efficiency(loaded, LOAD, 1).timed(CELLS[:2], unheard)
    assert heard == ["unpruned"]


def test_every_round_runs_every_cell_that_works(measured) -> None:
    result, heard = measured
    # the cells that work, then a run on plain text for the rows that the pruned one caches
    assert [sorted(order) for order in result["order"]] == [[0, 1, 5]] * 3
    assert heard[-3:] == [("rounds", n + 1, 3) for n in range(3)]
    assert heard[0] == ("warm-up round 1", 1, len(CELLS))
    named = list(dict.fromkeys(doing for doing, *_ in heard))
    assert named.index("memory, FLOPs and kernels") < named.index("rounds") == len(named) - 1
    assert gc.isenabled()


@pytest.mark.usefixtures("_only_naps_take_time")
def test_what_a_selection_takes_is_in_no_other_phase(loaded: LoadedModel) -> None:
    run, _ = time_run(Workload.of(loaded, Load(new_tokens=3)), Sleepy(), CELLS[1])
    assert run["selection"] == sum(run["stages"]) == run["end_to_end"] == NAP
    for phase in ("vision_tower", "projector", "prefill", "decode", "between_tokens"):
        assert not any(np.atleast_1d(run[phase])), phase


def test_stages_are_timed_one_by_one(loaded: LoadedModel) -> None:
    plan = get_method("pyramiddrop").plan(Budget(64), adapter_for(loaded.model).sizes(576))
    workload = Workload.of(loaded, Load(new_tokens=2))
    run, prefill = time_run(workload, get_method("pyramiddrop"), Cell.parse("pyramiddrop@64"))
    names = stage_names(prefill)
    assert len(names) == len(run["stages"]) == len({stage.layer for stage in plan.decoder}) > 1


@pytest.mark.parametrize("name", ["flowcut", "tome"])
def test_stages_inside_the_tower_are_selection_and_shorten_the_tower(
    loaded: LoadedModel, name: str
) -> None:
    workload, method = Workload.of(loaded, Load(new_tokens=2)), get_method(name)
    plan = method.plan(Budget(192), adapter_for(loaded.model).sizes(576))
    run, prefill = time_run(workload, method, Cell.parse(f"{name}@192"))
    assert len(stage_names(prefill)) == len(run["stages"]) == len(plan.tower[0])
    assert stage_names(prefill)[0].endswith(" in tower layer 0")
    counted = counted_flops(workload, method, Budget(192))
    whole = counted_flops(workload, get_method("unpruned"), Budget(fraction=1.0))
    assert counted["vision_tower"] < 0.8 * whole["vision_tower"]
    assert counted["projector"] == whole["projector"] * 192 // 576


def test_no_round_begins_after_the_time_is_up(loaded: LoadedModel) -> None:
    result = Efficiency(loaded, LOAD, 50, most_minutes=1e-5).timed(CELLS[:1], unheard)
    assert len(result["order"]) == len(result["cells"][0]["raw_seconds"]["prefill"]) == 1


def test_where_no_cell_fits_the_batch_is_refused(loaded: LoadedModel, monkeypatch) -> None:
    def full(*_):
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr("methods.generation.planned", full)
    with pytest.raises(BadInput, match="no cell fits into the device's memory at batch 2"):
        Efficiency(loaded, LOAD, 1).timed(CELLS[1:2], unheard)


@pytest.mark.usefixtures("_only_naps_take_time")
def test_stopwatch_takes_inner_phases_out() -> None:
    clock = Stopwatch(torch.device("cpu"))
    clock.start("outer")
    for _ in range(2):
        sleep(1)
        clock.start("inner")
        sleep(4)
        clock.stop("inner")
    clock.stop("outer")
    assert clock.seconds() == {"outer": [2], "inner": [4, 4]}


@pytest.mark.usefixtures("_only_naps_take_time")
def test_stopwatch_tells_the_gaps_before_a_phase() -> None:
    clock = Stopwatch(torch.device("cpu"))
    for phase in ("first", "step", "step"):
        clock.start(phase)
        clock.start("inner")
        sleep(1)
        clock.stop("inner")
        clock.stop(phase)
        sleep(4)
    assert clock.gaps("step") == [4, 4]


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
    code = "import sys, harness.efficiency.instrument; sys.exit('lmms_eval' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
