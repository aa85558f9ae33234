"""The batch is doubled while requests a second grow, memory holds it, and there is time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.cli.app import main
from harness.efficiency import saturation
from harness.efficiency.capacity import GIB, bytes_inside
from harness.efficiency.cell import TimedCell
from harness.efficiency.instrument import Efficiency
from harness.efficiency.saturation import Climb, Sweep
from harness.efficiency.trackers.memory import weight_bytes
from harness.efficiency.workload import Load, Workload
from harness.models.load import load_model
from harness.records.cell import Cell
from harness.records.file import read_all
from harness.run.instruments import instruments_of
from harness.run.request import Request

MIB = 2**20
WHOLE, FASTV, VITCOP = map(Cell.parse, ("unpruned", "fastv@64", "vitcop@64"))
MODEL = SimpleNamespace(device=torch.device("cpu"), parameters=list, buffers=list)
LOADED = SimpleNamespace(model=MODEL)

Seconds = Callable[[Cell, int], float]


def flat_from(batch: int) -> Seconds:
    """Of a model that answers up to so many samples in the time of one."""
    return lambda cell, size: max(1.0, size / batch)


def growing_by(share: float) -> Seconds:
    """Of one that answers this much more requests a second whenever the batch is doubled."""
    return lambda cell, size: size / (1 + share) ** (size.bit_length() - 1)


def unheard(doing: str, number: int, total: int) -> None:
    """Of what nobody waits for."""


@pytest.fixture(autouse=True)
def _uncollected(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look through all that tests hold takes longer than all the rest."""
    monkeypatch.setattr("gc.collect", lambda: 0)


@pytest.fixture
def climbed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Climb]]:
    """Climbs of cells by a planted clock, in a memory of which each sample takes a MiB."""

    def climb(
        seconds: Seconds,
        *cells: Cell,
        mib: float = 1024,
        held: Callable[[Cell, int], float] = lambda cell, size: size,
        last: float | None = None,
    ) -> list[Climb]:
        class Planted(TimedCell):
            def warm_up(self) -> None:
                self.warmups.append({"end_to_end": 1.0})

            def time(self) -> None:
                took = seconds(self.cell, self.workload.load.batch_size)
                self.rounds.append({"end_to_end": took})

            @property
            def probe(self):
                return self.cell, self.workload.load.batch_size

        def of(loaded, load):
            return SimpleNamespace(loaded=loaded, load=load)

        monkeypatch.setattr(saturation, "TimedCell", Planted)
        monkeypatch.setattr(saturation, "Workload", SimpleNamespace(of=of))
        monkeypatch.setattr(saturation, "bytes_inside", lambda probe: held(*probe) * MIB)
        asked = of(LOADED, Load())
        return Sweep(asked, 3, mib / 1024, last, unheard).climbed(cells or [FASTV])

    return climb


def tried(climb: Climb) -> list[int]:
    return [each["batch"] for each in climb.batches]


@pytest.mark.parametrize("batch", [1, 2, 8, 64])
def test_the_batch_where_requests_stop_growing_is_found(climbed, batch) -> None:
    (found,) = climbed(flat_from(batch))
    assert (found.ended, found.reason) == ("growth", None)
    assert tried(found) == [2**power for power in range(batch.bit_length() + 1)]
    assert found.saturated == {"batch": batch, "seconds": [1.0] * 3}
    assert found.batches[-1]["seconds"] == [2.0] * 3


def test_what_keeps_growing_ends_at_the_bound(climbed) -> None:
    (found,) = climbed(growing_by(1.0), mib=100)
    assert (found.ended, tried(found)[-1], found.saturated["batch"]) == ("memory", 64, 64)


def test_growth_below_a_twentieth_is_none(climbed) -> None:
    (less,) = climbed(growing_by(0.049), mib=8)
    (more,) = climbed(growing_by(0.051), mib=8)
    assert (less.ended, less.saturated["batch"]) == ("growth", 1)
    assert (more.ended, more.saturated["batch"]) == ("memory", 8)


def test_more_requests_that_get_fewer_end_below_them(climbed) -> None:
    (found,) = climbed(lambda cell, size: 1.0 if size < 8 else 100.0)
    assert (found.ended, tried(found)[-1], found.saturated["batch"]) == ("growth", 8, 4)


def test_each_cell_ends_for_itself_and_all_are_compared_in_the_same_rounds(climbed) -> None:
    def seconds(cell: Cell, size: int) -> float:
        return flat_from(2 if cell == FASTV else 8)(cell, size)

    found = climbed(seconds, WHOLE, FASTV)
    assert [climb.saturated["batch"] for climb in found] == [8, 2]
    assert [len(climb.saturated["seconds"]) for climb in found] == [3, 3]
    assert [tried(climb)[-1] for climb in found] == [16, 4]


def test_a_run_that_finds_no_memory_ends_its_cell_and_no_other(climbed) -> None:
    def seconds(cell: Cell, size: int) -> float:
        if cell == FASTV and size > 2:
            raise torch.OutOfMemoryError("planted")
        return flat_from(4)(cell, size)

    whole, fastv = climbed(seconds, WHOLE, FASTV)
    assert (whole.ended, whole.saturated["batch"]) == ("growth", 4)
    assert (fastv.ended, fastv.saturated["batch"], tried(fastv)) == ("memory", 2, [1, 2])


def test_a_cell_of_which_no_sample_fits_has_nothing(climbed) -> None:
    held = {WHOLE: 200.0, FASTV: 30.0}
    whole, fastv = climbed(flat_from(1), WHOLE, FASTV, mib=100, held=lambda cell, size: held[cell])
    assert whole.body(0.1) == {"gib": 0.1, "ended": "memory", "reason": None, "batches": []}
    assert fastv.saturated["batch"] == 1


def test_a_failure_is_told_and_stops_no_other_cell(climbed) -> None:
    def seconds(cell: Cell, size: int) -> float:
        if cell == FASTV and size == 4:
            raise ValueError("planted")
        return flat_from(8)(cell, size)

    whole, fastv, vitcop = climbed(seconds, WHOLE, FASTV, VITCOP)
    assert (fastv.ended, fastv.saturated, tried(fastv)) == ("failure", None, [1, 2])
    assert fastv.reason == "at batch 4: ValueError: planted"
    assert {each.saturated["batch"] for each in (whole, vitcop)} == {8}


def test_a_cell_that_fails_in_the_last_rounds_alone_is_told_too(climbed) -> None:
    runs = []

    def seconds(cell: Cell, size: int) -> float:
        runs.append(size)
        if runs.count(1) > 3:  # in its own rounds it ran three times
            raise torch.OutOfMemoryError("planted")
        return flat_from(1)(cell, size)

    (found,) = climbed(seconds)
    assert (found.ended, found.saturated) == ("failure", None)
    assert found.reason == "at batch 1: out of memory at batch 1"


def test_no_larger_batch_begins_after_the_time_is_up(climbed) -> None:
    (found,) = climbed(growing_by(1.0), last=0.0)
    assert found.body(1) == {
        "gib": 1,
        "ended": "time",
        "reason": None,
        "batches": [{"batch": 1, "seconds": [1.0]}],
        "saturated": {"batch": 1, "seconds": [1.0]},
    }


def test_a_cpu_is_not_filled_up(climbed, monkeypatch) -> None:
    """There the system would kill the process, whatever the bound is."""
    monkeypatch.setattr(saturation, "free_bytes", lambda device: 20 * MIB)
    (found,) = climbed(growing_by(1.0), mib=1024)
    assert (found.ended, found.saturated["batch"]) == ("memory", 16)


def test_inputs_that_find_no_memory_end_the_way_up(climbed, monkeypatch) -> None:
    climbed(flat_from(1))  # plants the clock

    def of(loaded, load):
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(saturation, "Workload", SimpleNamespace(of=of))
    asked = SimpleNamespace(loaded=LOADED, load=Load())
    (found,) = Sweep(asked, 3, 1.0, None, unheard).climbed([FASTV])
    assert (found.ended, found.batches) == ("memory", [])


@pytest.fixture(scope="module")
def loaded():
    return load_model("random:tiny", "cpu")


def test_weights_are_inside_the_bound(loaded) -> None:
    run = TimedCell(FASTV, Workload.of(loaded, Load(new_tokens=2)))
    assert bytes_inside(run.probe) >= weight_bytes(loaded.model)


def test_only_the_first_batch_size_is_where_it_is_looked_for(loaded, tmp_path) -> None:
    asked = Request(methods=(), budgets=(), model="random:tiny", output=tmp_path, accuracy=False)
    asked = replace(asked, batch_sizes=(2, 1), saturate_gib=4.0)
    made = instruments_of(asked, loaded, 1)
    assert [each.saturate_gib for each in made] == [4.0, None]


def test_a_run_that_does_not_look_for_it_keeps_its_identity(loaded) -> None:
    cells = [WHOLE]
    (plain,) = Efficiency(loaded, Load(), 3).pieces(cells)
    (sought,) = Efficiency(loaded, Load(), 3, saturate_gib=4.0).pieces(cells)
    assert sought.identity == {**plain.identity, "saturate_gib": 4.0}
    assert "saturate_gib" not in plain.identity


def test_from_the_command_line_to_the_table(tmp_path: Path, capsys, monkeypatch) -> None:
    def planted(probe):
        return 1.5 * GIB if probe.workload.load.batch_size > 2 else 0.5 * GIB

    monkeypatch.setattr(saturation, "bytes_inside", planted)
    monkeypatch.setattr(saturation, "GROWTH", -1.0)
    model = ("--model", "random:tiny", "--device", "cpu", "--methods", "fastv", "--budgets", "64")
    command = ("efficiency", *model, "--batch-size", "1", "--repeats", "1", "--new-tokens", "2")
    assert main([*command, "--saturate", "1", "-o", str(tmp_path)]) == 0
    first = capsys.readouterr()
    assert "Saturation · random:tiny" in first.out
    assert "efficiency: batch 2, rounds" in first.err
    assert max(map(len, first.out.splitlines())) <= 112
    (record,) = read_all([tmp_path], pytest.fail)
    assert record.identity.saturate_gib == 1
    for cell in record.cells:
        found = cell.saturation
        assert [each.batch for each in found.batches] == [1, 2]
        assert (found.ended, found.saturated.batch) == ("memory", 2)
        assert min(found.saturated.seconds) > 0
    assert (tmp_path / "saturation.md").exists()
    assert main([*command, "--saturate", "1", "-o", str(tmp_path)]) == 0
    again = capsys.readouterr()
    assert "reused the efficiency record" in again.err
    assert again.out == first.out
    assert main(["table", str(tmp_path)]) == 0
    assert capsys.readouterr().out == first.out
