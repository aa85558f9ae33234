"""Workers on Ray: who answers what, who died and who is slow. Only the driver writes records.

Ray places the workers, moves what they give and tells their deaths. It is imported where workers
are asked for, and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from harness.errors import BadInput, sentence
from harness.records.cell import Cell
from harness.run.answering import Begin, Done
from harness.run.deal import Deal, Unit
from harness.run.facts import Facts
from harness.run.failures import FailedElsewhere, Failure, failed
from harness.run.instruments import Asking
from harness.run.progress import Progress
from harness.run.rayed import Room, connected, room
from harness.run.request import Request
from harness.run.worker import Ready, Worker

TRIES = 3
"""So many workers may die of one unit, or while they load the model."""
DEATHS = ("RayActorError", "OutOfMemoryError", "WorkerCrashedError", "NodeDiedError")
"""What Ray raises where a worker is gone; anything else is an error of this program."""
LOOK = 5.0
"""Seconds between two looks at what the cluster has."""
SLOW = 2.0
"""Times the others' time a question."""


@dataclass(eq=False)
class Hand:
    """A worker as the driver knows it; `name` is empty until it has its model."""

    actor: Any
    name: str = ""
    unit: Unit | None = None
    paces: list[float] = field(default_factory=list)
    told_slow: bool = False


@contextmanager
def crew_for(request: Request, progress: Progress) -> Iterator[Crew]:
    """A crew of which the first has its model. Raises BadInput."""
    with connected(request) as ray:
        crew = Crew(ray, request, progress)
        crew.hire()
        crew.wait_for_first()
        yield crew


class Crew:
    """`facts`: what the first worker told of its model, which every other's must equal."""

    facts: Facts

    def __init__(self, ray: Any, request: Request, progress: Progress) -> None:
        self.ray, self.request, self.progress = ray, request, progress
        self.waited: dict[Any, Hand] = {}  # by what it will give
        self.idle: list[Hand] = []
        self.died: Counter[tuple[int, int]] = Counter()
        self.not_begun, self.looked = 0, 0.0
        self.room: Room = room(ray, request)
        self.deaths = tuple(getattr(ray.exceptions, name) for name in DEATHS)

    @property
    def hands(self) -> list[Hand]:
        return [*self.waited.values(), *self.idle]

    def hire(self) -> None:
        """As many as there is room for; those without a place yet begin where one is free."""
        self.looked = monotonic()
        self.room = room(self.ray, self.request)
        while len(self.hands) < self.room.workers:
            self._hire_one(self.room.cores)

    def _hire_one(self, cores: float) -> Hand:
        actor = self.ray.remote(Worker).options(
            num_cpus=cores, num_gpus=self.room.gpus, max_restarts=0, max_task_retries=0
        )
        hand = Hand(actor.remote(self.request, Path.cwd()))
        self.waited[hand.actor.begin.remote()] = hand
        return hand

    def wait_for_first(self) -> None:
        """Until a worker has its model. Raises BadInput where none gets it."""
        while not self.idle:
            self._look()

    def _look(self) -> list[Done]:
        """What has come since; waits a moment for it."""
        ready, _ = self.ray.wait(list(self.waited), num_returns=1, timeout=LOOK)
        if monotonic() - self.looked > LOOK:
            self.hire()
        return [done for ref in ready for done in self._come(ref, self.waited.pop(ref))]

    def _come(self, ref: Any, hand: Hand) -> list[Done]:
        try:
            given = self.ray.get(ref)
        except self.deaths as error:
            return self._lost(hand, _why(error))
        self.idle.append(hand)
        if isinstance(given, Done):
            hand.unit = None
            self._pace(hand, given)
            return [given]
        self._begun(hand, given)
        return []

    def _begun(self, hand: Hand, given: Ready | Failure) -> None:
        if isinstance(given, Failure):
            raise BadInput(f"a worker cannot begin: {given.result['reason']}")
        hand.name = given.name
        if not hasattr(self, "facts"):
            self.facts = given.facts
        ours, its = self.facts.identity, given.facts.identity
        differing = [key for key in ours if ours[key] != its.get(key)]
        if differing:
            raise BadInput(
                f"worker {hand.name} differs from the first in {', '.join(differing)}: "
                f"{its.get(differing[0])}, not {ours[differing[0]]}; all need one environment"
            )
        self.progress.say(f"worker {hand.name} is ready")

    def _lost(self, hand: Hand, why: str) -> list[Done]:
        """Its unit goes to another, or has failed; there is room for another worker."""
        unit = hand.unit
        self.progress.say(f"worker {hand.name or 'that was loading its model'} is lost: {why}")
        if unit is None:
            self.not_begun += not hand.name
            if self.not_begun >= TRIES:
                raise BadInput(f"{TRIES} workers died before they had their model: {why}")
            self.hire()
            return []
        self.died[unit.piece, unit.shard] += 1
        self.hire()
        if self.died[unit.piece, unit.shard] < TRIES:
            self.deal.put_back(unit)
            return []
        reason = f"{TRIES} workers died of part {unit.shard + 1}, the last one so: {why}"
        return [Done(unit, None, Failure(failed(reason)), hand.name)]

    def answers(self, asking: Asking, deal: Deal, begin: Begin) -> Iterator[Done]:
        """An engine: whoever is free gets the next unit, before what came is written."""
        self.deal = deal
        self._hand_out()
        while any(hand.unit for hand in self.waited.values()) or len(deal):
            came = self._look()
            self._hand_out()
            yield from came
            self._hand_out()  # what was waited for may be dropped

    def _hand_out(self) -> None:
        for hand in list(self.idle):
            unit = self.deal.next(hand.name)
            if unit is None:
                return
            self.idle.remove(hand)
            hand.unit = unit
            self.waited[hand.actor.answer.remote(unit)] = hand

    def _pace(self, hand: Hand, done: Done) -> None:
        """Says once of a worker that the others are far quicker."""
        if done.answers is not None:
            hand.paces.append(done.answers["wall_seconds"] / len(done.unit.documents))
        others = [median(h.paces) for h in self.hands if h is not hand and len(h.paces) > 2]
        if others and len(hand.paces) > 2 and not hand.told_slow:
            own, usual = median(hand.paces), median(others)
            hand.told_slow = own > SLOW * usual
            if hand.told_slow:
                self.progress.say(
                    f"worker {hand.name} is slow: {1 / own:.3g} questions a second, "
                    f"others {1 / max(usual, 1e-9):.3g}"
                )

    def sizes(self, images: int) -> Any:
        """As a worker that is idle says."""
        return self.ray.get(self.idle[0].actor.sizes.remote(images))

    def timed(self, number: int, cells: Sequence[Cell], on_step: Any) -> dict[str, Any]:
        """By one worker, with nobody beside it. Raises FailedElsewhere."""
        self._dismiss()
        hand = self._hire_one(self.room.most_cores)
        self.wait_for_first()
        on_step(f"timed by {hand.name}", 1, 1)
        try:
            given = self.ray.get(hand.actor.timed.remote(number, cells))
        except self.deaths as error:
            raise FailedElsewhere(Failure(failed(f"its worker died: {_why(error)}"))) from error
        if isinstance(given, Failure):
            raise FailedElsewhere(given)
        return given

    def _dismiss(self) -> None:
        for hand in self.hands:
            self.ray.kill(hand.actor)
        self.waited.clear()
        self.idle.clear()


def _why(error: Exception) -> str:
    """What Ray says of a death, without names that only Ray knows."""
    text = str(error).rpartition("The actor is dead because ")[2]
    return sentence(text.split("Some common causes")[0])
