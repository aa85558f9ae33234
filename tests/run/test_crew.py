"""Workers that die, differ, dawdle and come: what the driver makes of it, on a pretended Ray."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from from_bodies import bodies_in
from pretended_ray import PretendedRay
from stand_ins import TASKS, Runner, asked
from synthetic_records import COMMON, PROVENANCE, accuracy, efficiency_cell

from harness.analysis.told import told
from harness.cli.app import main
from harness.efficiency.instrument import Efficiency
from harness.efficiency.workload import Load
from harness.errors import BadInput
from harness.records.store import Store
from harness.run import crew as crews
from harness.run.answering import attempted
from harness.run.cells import Work
from harness.run.crew import Crew
from harness.run.failures import FailedElsewhere, Failure, failed
from harness.run.progress import Progress
from harness.run.rayed import Room, connected, room
from harness.run.request import cells_of
from harness.run.worker import Ready

TWO = ({"CPU": 2.0}, {"CPU": 2.0})


class StandIn:
    """A worker that answers from nothing."""

    def __init__(self, number, identity=COMMON, begins=None) -> None:
        self.name, self.identity, self.begins = f"w{number}", identity, begins
        self.runner = Runner()

    def begin(self):
        return self.begins or Ready(self.name, SimpleNamespace(identity=self.identity))

    def answer(self, unit):
        return attempted(self.runner, unit, None, self.name)

    def sizes(self, images):
        return images

    def timed(self, number, cells):
        row = efficiency_cell("unpruned", None, 0.1) | {"cell": "unpruned"}
        del row["method"], row["budget"]
        shape, origin = accuracy()["shape"], {"threads": 7, "workers": {self.name: []}}
        return {"cells": [row], "order": [], "shape": shape, "provenance": origin}


def hired(ray, request):
    said = io.StringIO()
    crew = Crew(ray, request, Progress(said, told))
    crew.hire()
    crew.wait_for_first()
    return crew, said


def compared(ray, directory, shard_questions=2, **changes):
    """What the records hold, and what was said."""
    request = asked(directory, efficiency=False, workers=2, **changes)
    crew, said = hired(ray, request)
    runner = Runner()
    runner.shard_questions = shard_questions
    store = Store(directory, crew.progress.say)
    work = Work(cells_of(request), {}, COMMON, PROVENANCE, store, crew.progress, crew.answers)
    work.records([runner])
    return bodies_in(directory), said.getvalue()


def without_origin(bodies):
    return [{k: v for k, v in body.items() if k != "provenance"} for body in bodies]


@pytest.fixture
def whole(tmp_path):
    return without_origin(compared(PretendedRay(StandIn), tmp_path / "whole")[0])


def test_records_do_not_depend_on_who_answers_and_say_who_did(tmp_path, whole):
    found, _ = compared(PretendedRay(StandIn), tmp_path / "again", shard_questions=4)
    assert without_origin(found) == whole
    by_hand = compared(PretendedRay(StandIn), tmp_path / "two")[0]
    workers = [body["provenance"]["workers"] for body in by_hand]
    assert {name for who in workers for name in who} == {"w0", "w1"}
    assert all(sorted(n for parts in who.values() for n in parts) == [1, 2] for who in workers)


def test_what_a_dead_worker_had_goes_to_another(tmp_path, whole):
    ray = PretendedRay(StandIn, deaths={0: 3, 1: 1})
    found, said = compared(ray, tmp_path / "deaths")
    assert without_origin(found) == whole
    assert said.count("is lost: it was killed.") == 2
    assert len(ray.actors) == 4
    parts = [b["provenance"]["workers"] for b in found]
    assert all(sorted(n for who in p.values() for n in who) == [1, 2] for p in parts)


def test_a_part_of_which_three_workers_die_fails_its_cell_alone(tmp_path):
    class Deadly(StandIn):
        def answer(self, unit):
            if (unit.cell.text, unit.task, unit.shard) == ("fastv@64", "digits", 1):
                raise ray.exceptions.RayActorError
            return super().answer(unit)

    ray = PretendedRay(Deadly)
    found, said = compared(ray, tmp_path)
    assert [b["cell"] for b in found if b["status"] == "failed"] == ["fastv@64"]
    assert "fastv@64 digits: FAILED: 3 workers died of part 2, the last one so: it was" in said
    assert len(ray.actors) == 5


def test_a_failure_of_a_worker_is_the_cells(tmp_path):
    def failing(number):
        worker = StandIn(number)
        worker.runner.fail = [("vitcop@64", "count", 0, 1)]
        return worker

    found, said = compared(PretendedRay(failing), tmp_path)
    assert "vitcop@64 count: FAILED: RuntimeError: no answer" in said
    assert sum(b["status"] == "failed" for b in found) == 1


def test_workers_of_another_environment_are_refused(tmp_path):
    other = {**COMMON, "code_digest": "0ther"}
    ray = PretendedRay(lambda n: StandIn(n, other if n else COMMON))
    with pytest.raises(BadInput, match="worker w1 differs from the first in code_digest: 0ther, n"):
        compared(ray, tmp_path)


def test_a_worker_that_cannot_begin_says_why():
    ray = PretendedRay(lambda n: StandIn(n, begins=Failure(failed("no such model"))))
    with pytest.raises(BadInput, match="a worker cannot begin: no such model"):
        hired(ray, asked(None, workers=1))


def test_workers_that_die_while_loading_are_not_hired_for_ever():
    ray = PretendedRay(StandIn, deaths=dict.fromkeys(range(9), "loading"))
    with pytest.raises(BadInput, match="3 workers died before they had their model: it was kill"):
        hired(ray, asked(None, workers=1))


def test_a_node_that_joins_gets_a_worker(tmp_path, monkeypatch):
    ray = PretendedRay(StandIn)
    crew, _ = hired(ray, asked(tmp_path, ray="a:1"))
    assert [hand.name for hand in crew.idle] == ["w0"]
    ray.resources = list(TWO)
    monkeypatch.setattr(crews, "LOOK", 0.0)
    crew.hire()
    crew._look()
    assert [hand.name for hand in crew.idle] == ["w0", "w1"]


def test_a_slow_worker_is_named_once(tmp_path):
    class Slow(StandIn):
        def answer(self, unit):
            done = super().answer(unit)
            seconds = 9.0 if self.name == "w1" else 1.0
            return replace(done, answers={**done.answers, "wall_seconds": seconds})

    _, said = compared(PretendedRay(Slow), tmp_path)
    assert said.count("worker w1 is slow: ") == 1
    assert "worker w0 is slow" not in said


def test_timing_is_done_by_one_worker_after_the_others_left(tmp_path):
    ray = PretendedRay(StandIn, nodes=({"CPU": 8.0, "GPU": 2.0},))
    request = asked(tmp_path, workers=2, device="cuda")
    crew, said = hired(ray, request)
    timing = Efficiency(None, Load(), repeats=1, elsewhere=partial(crew.timed, 0))
    store = Store(tmp_path, crew.progress.say)
    cells = cells_of(request)[:1]
    Work(cells, {}, COMMON, PROVENANCE, store, crew.progress).records([timing])
    (body,) = bodies_in(tmp_path)
    assert body["provenance"]["threads"] == 7
    assert body["provenance"]["workers"] == {"w2": []}
    assert body["provenance"]["commit"] == PROVENANCE["commit"]
    assert set(ray.killed) == set(ray.actors[:2])
    assert ray.actors[2].asked["num_gpus"] == 1
    assert ray.actors[2].asked["num_cpus"] == 8
    assert "efficiency: timed by w2" in said.getvalue()


def test_what_fails_in_timing_is_that_failure(tmp_path):
    class Broken(StandIn):
        def timed(self, number, cells):
            return Failure(failed("RuntimeError: slow"), stops="layer 0")

    crew, _ = hired(PretendedRay(Broken), asked(tmp_path, workers=1))
    with pytest.raises(FailedElsewhere) as raised:
        crew.timed(0, (), lambda *step: None)
    assert raised.value.failure.stops == "layer 0"


@pytest.mark.parametrize(
    ("nodes", "changes", "expected"),
    [
        (({"CPU": 8.0},), {"workers": 2}, Room(2, 4, 0, 8)),
        (({"CPU": 2.0},), {"workers": 3}, Room(3, 1, 0, 2)),
        (TWO, {"ray": "a:1"}, Room(2, 2, 0, 2)),
        (({"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}), {"ray": "a:1"}, Room(8, 4, 1, 16)),
        (({"CPU": 16.0, "GPU": 4.0},), {"workers": 2, "device": "cpu"}, Room(2, 8, 0, 16)),
        (({"CPU": 16.0}, {}), {"ray": "a:1"}, Room(1, 16, 0, 16)),
    ],
)
def test_room_is_a_gpu_each_or_a_share_of_the_cores(nodes, changes, expected):
    request = replace(asked(None), **{"device": "auto", **changes})
    assert room(PretendedRay(StandIn, nodes=nodes), request) == expected


def test_more_workers_than_gpus_are_refused():
    ray = PretendedRay(StandIn, nodes=({"CPU": 8.0, "GPU": 2.0},))
    with pytest.raises(BadInput, match="--workers 3 needs a GPU each, there are 2"):
        room(ray, asked(None, workers=3, device="auto"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 2, "device": "cuda:1"}, "--device cuda:1 is one GPU, and each worker has one"),
        ({"ray": "somewhere"}, "a Ray cluster is HOST:PORT or auto, not 'somewhere'"),
        ({"ray": "127.0.0.1:9"}, "no Ray cluster answers at 127.0.0.1:9: "),
    ],
)
def test_what_cannot_be_connected_is_one_sentence(changes, message):
    with pytest.raises(BadInput, match=message), connected(asked(None, **changes)):
        pass


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("harness.run.rayed.find_spec", lambda name: None)
    command = ["compare", "--model", "tiny", "--workers", "2", "-o", str(tmp_path / "out")]
    assert main([*command, "--no-efficiency", "--tasks", TASKS[0].join(["embedded_", ""])]) == 2
    assert "pip install 'visual-token-pruning[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
