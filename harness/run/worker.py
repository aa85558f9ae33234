"""What one worker is: a model, loaded once, and the instruments of a request; without Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.models.placement import machine
from harness.models.shapes import sizes_of
from harness.records.cell import Cell
from harness.records.gpu import GpuState, complaints
from harness.run.answering import Done, attempted
from harness.run.checked import checked
from harness.run.deal import Unit
from harness.run.facts import Facts, facts_of
from harness.run.failures import Failure, failed, failure_of
from harness.run.instruments import Asking, Instrument, Timing, instruments_of
from harness.run.request import Request


@dataclass(frozen=True)
class Ready:
    """A worker that has its model; `facts` without it."""

    name: str
    facts: Facts


class Worker:
    """Its methods take and give plain values; what fails is given as a Failure.

    `folder`: what paths of the request are relative to, here as where it was made.
    """

    facts: Facts

    def __init__(self, request: Request, folder: Path) -> None:
        self.request, self.folder = request, folder
        self.name = f"{socket.gethostname()} process {os.getpid()}"
        self.instruments: list[Instrument] = []

    def begin(self) -> Ready | Failure:
        """Load the model."""
        try:
            os.chdir(self.folder)
            source, _ = checked(self.request)
            self.facts = facts = facts_of(self.request, source)
            self.instruments = instruments_of(self.request, facts.loaded, facts.images)
        except Exception as error:  # the driver shows it
            return failure_of(error)
        without = replace(facts.loaded, model=None, processor=None)
        return Ready(self.name, replace(facts, loaded=without))

    def sizes(self, images: int) -> Any:
        """Of a sample with so many images; None where they depend on the images."""
        return sizes_of(self.facts.loaded.model, images)

    def answer(self, unit: Unit) -> Done:
        (asking,) = (each for each in self.instruments if isinstance(each, Asking))
        return attempted(asking, unit, None, self.name)

    def timed(self, number: int, cells: Sequence[Cell]) -> dict[str, Any] | Failure:
        """What `Efficiency.timed` gives, of the timing of that number, and where that was; nobody
        else may be on its GPU.
        """
        from harness.efficiency.trackers.gpu import gpu_state

        timing = [each for each in self.instruments if isinstance(each, Timing)][number]
        device = self.facts.loaded.device
        state = gpu_state(device)
        if found := complaints(GpuState.of(state), own_processes=1):
            return Failure(failed(f"the GPU of {self.name} is not alone: {', '.join(found)}"))
        try:
            origin = {**machine(device), "workers": {self.name: []}}
            return {**timing.timed(cells, _silent), "provenance": origin}
        except Exception as error:  # the driver records it
            return failure_of(error)


def _silent(doing: str, number: int, total: int) -> None: ...
