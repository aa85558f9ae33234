"""Ray as the crew uses it, without processes: an actor computes when what it gives is fetched.

`deaths`: by the number of the actor, from 0, how many units it answers before it dies of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


class ActorError(Exception):
    """As Ray says it."""

    def __init__(self) -> None:
        super().__init__("The actor died.\n\tactor_id: 5\nThe actor is dead because it was killed.")


@dataclass(eq=False)
class Reference:
    actor: Any
    method: str
    arguments: tuple


class PretendedRay:
    def __init__(self, make, deaths=None, nodes=({"CPU": 2.0},)) -> None:
        self.make, self.deaths = make, deaths or {}
        self.actors, self.killed, self.order = [], [], []
        self.resources = list(nodes)
        names = ("RayActorError", "OutOfMemoryError", "WorkerCrashedError", "NodeDiedError")
        self.exceptions = SimpleNamespace(**dict.fromkeys(names, ActorError))

    def nodes(self):
        return [{"Alive": True, "Resources": resources} for resources in self.resources]

    def remote(self, _):
        return self

    def options(self, **asked):
        self.asked = asked
        return SimpleNamespace(remote=self._hired)

    def _hired(self, *arguments):
        number = len(self.actors)
        actor = PretendedActor(self.make(number), self.deaths.get(number), self.asked)
        self.actors.append(actor)
        return actor

    def wait(self, references, num_returns, timeout):
        """Whoever has done least is ready first."""
        first = min(references, key=lambda r: (r.actor.done, self.actors.index(r.actor)))
        return [first], [r for r in references if r is not first]

    def get(self, reference):
        return reference.actor.give(reference)

    def kill(self, actor):
        self.killed.append(actor)


class PretendedActor:
    def __init__(self, worker, dies_after, asked) -> None:
        self.worker, self.dies_after, self.asked, self.done = worker, dies_after, asked, 0

    def __getattr__(self, method):
        return SimpleNamespace(remote=lambda *given: Reference(self, method, given))

    def give(self, reference):
        if reference.method == "answer":
            if self.done == self.dies_after:
                raise ActorError
            self.done += 1
        elif self.dies_after == "loading":
            raise ActorError
        return getattr(self.worker, reference.method)(*reference.arguments)
