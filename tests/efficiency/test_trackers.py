"""Whatever watches the device is asked, and is in the record under keys of its own."""

from __future__ import annotations

import pytest

from harness.efficiency import trackers
from harness.efficiency.instrument import Efficiency
from harness.efficiency.trackers import Tracker, gathered, tracker
from harness.efficiency.workload import Load
from harness.models.load import load_model
from harness.records.cell import Cell

CELLS = [Cell.parse("unpruned"), Cell.parse("uniform@64")]


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """As it is; what a test adds goes again."""
    gathered(lambda each: {})
    monkeypatch.setattr(trackers, "TRACKERS", dict(trackers.TRACKERS))
    return trackers.TRACKERS


def timed():
    loaded = load_model("random:tiny", "cpu")
    return Efficiency(loaded, Load(new_tokens=2), 1).timed(CELLS, lambda *_: None)


def test_the_shipped_ones_are_found(registry):
    assert set(registry) == {"Memory", "Kernels", "Rates", "Gpu"}


def test_one_from_outside_tells_of_the_run_and_of_every_cell():
    @tracker
    class Thermometer(Tracker):
        def __init__(self):
            self.ran = 0

        def before(self, loaded):
            return {"kelvin_before": [loaded.name, self.ran]}

        def of_cell(self, probe):
            self.ran += 1
            probe.run(new_tokens=2)
            return {"kelvin": probe.method.name}

        def warm(self, loaded):
            return {"kelvin_warm": self.ran}

        def after(self, loaded):
            return {"kelvin_after": self.ran}

    found = timed()
    own = {key: value for key, value in found.items() if key.startswith("kelvin")}
    assert own == {
        "kelvin_before": ["random:tiny", 0],
        "kelvin_warm": 2,
        "kelvin_after": 2,
    }
    assert [cell["kelvin"] for cell in found["cells"]] == ["unpruned", "uniform"]
    assert {"rates", "gpu_warm", "gpu_after", "weight_bytes"} <= found.keys()
    assert all({"kv_cache_bytes", "attention"} <= cell.keys() for cell in found["cells"])


def test_one_that_fails_on_a_cell_fails_the_cell_visibly():
    @tracker
    class Broken(Tracker):
        def of_cell(self, probe):
            if probe.method.name == "uniform":
                raise OSError("no sensor")
            return {}

    unpruned, uniform = timed()["cells"]
    assert unpruned["status"] == "ok"
    assert (uniform["status"], uniform["reason"]) == ("failed", "OSError: no sensor")


def test_two_that_tell_one_key_are_an_error():
    @tracker
    class Second(Tracker):
        def before(self, loaded):
            return {"rates": {}}

    loaded = load_model("random:tiny", "cpu")
    with pytest.raises(ValueError, match="'rates', which another tells already"):
        gathered(lambda each: each.before(loaded))


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="there is a tracker 'Memory' already"):

        @tracker
        class Memory(Tracker):
            pass
