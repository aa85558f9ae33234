"""What watches the device while cells are timed: one class a file, found by looking here.

A class of your own becomes one by `@tracker`, too. Each adds keys of its own to the record: to the
run's part, or to every cell's.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from harness.efficiency.workload import Workload
from harness.models.load import LoadedModel
from methods import Budget, Method
from methods.clock import Clock


@dataclass(frozen=True)
class Probe:
    """One cell on the input that all are timed on, to be run as often as a tracker needs."""

    workload: Workload
    method: Method
    budget: Budget

    def run(self, clock: Clock | None = None, new_tokens: int | None = None) -> None:
        """One `generate`; `clock` is told of its phases."""
        with self.workload.attached(self.method, self.budget, clock):
            self.workload.generate(new_tokens)


class Tracker:
    """Tells nothing of the run or of a cell until it is overridden. Nothing of it is timed."""

    def before(self, loaded: LoadedModel) -> Mapping[str, Any]:
        """Of the run, before anything has run."""
        return {}

    def of_cell(self, probe: Probe) -> Mapping[str, Any]:
        """Of a cell that is warm. What it raises fails the cell."""
        return {}

    def warm(self, loaded: LoadedModel) -> Mapping[str, Any]:
        """Of the run, just before the first round."""
        return {}

    def after(self, loaded: LoadedModel) -> Mapping[str, Any]:
        """Of the run, just after the last round."""
        return {}


TRACKERS: dict[str, Tracker] = {}
T = TypeVar("T", bound=type[Tracker])


def tracker(kind: T) -> T:
    """Class decorator: one of it watches every run from now on. Raises ValueError for a name that
    is taken.
    """
    if kind.__name__ in TRACKERS:
        raise ValueError(f"there is a tracker {kind.__name__!r} already")
    TRACKERS[kind.__name__] = kind()
    return kind


def gathered(ask: Callable[[Tracker], Mapping[str, Any]]) -> dict[str, Any]:
    """What all trackers answer, together. Raises ValueError where two tell of one key."""
    _find()
    found: dict[str, Any] = {}
    for name, each in TRACKERS.items():
        told = ask(each)
        if twice := found.keys() & told.keys():
            raise ValueError(f"tracker {name} tells {min(twice)!r}, which another tells already")
        found |= told
    return found


@cache
def _find() -> None:
    """Import the modules of this folder, which register what they have."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
