"""Where a comparison is measured: in this process, or by workers that have the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.run.answering import Engine, alone
from harness.run.facts import Facts, facts_of
from harness.run.instruments import Instrument, instruments_of
from harness.run.progress import Progress
from harness.run.request import Request

if TYPE_CHECKING:
    from harness.models.load import Source


@dataclass(frozen=True)
class Bench:
    """`engine`: who answers what the instruments ask."""

    facts: Facts
    instruments: Sequence[Instrument]
    engine: Engine


@contextmanager
def bench_for(request: Request, source: Source | None, progress: Progress) -> Iterator[Bench]:
    """`source`: the model, None where this machine need not have it. Raises BadInput."""
    if source is not None and request.workers is None:
        facts = facts_of(request, source)
        yield Bench(facts, instruments_of(request, facts.loaded, facts.images), alone)
        return
    from harness.run.crew import crew_for

    with crew_for(request, progress) as crew:
        facts = crew.facts
        yield Bench(facts, instruments_of(request, facts.loaded, facts.images, crew), crew.answers)
