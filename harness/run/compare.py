"""What is asked for is checked, then measured: one way for every command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.errors import warn
from harness.records.provenance import provenance
from harness.records.record import Record
from harness.records.store import opened
from harness.run.bench import bench_for
from harness.run.cells import Work
from harness.run.checked import checked, with_members
from harness.run.progress import progress_on
from harness.run.request import Request


def compare(request: Request, told: Callable[[Record], str]) -> list[Record]:
    """Outlines of the records of all that is asked for; see `compared`."""
    with compared(request, told) as records:
        return records


@contextmanager
def compared(request: Request, told: Callable[[Record], str]) -> Iterator[list[Record]]:
    """The same while no other process may use the output directory.

    `told`: a finished record in a few words, for those who wait. Raises BadInput, PruningError and
    Interrupted.
    """
    source, state = (None, {}) if request.ray else checked(request)
    request = with_members(request)
    with opened(request.output, warn, request.fresh) as store:
        progress = progress_on(sys.stderr, told)
        with bench_for(request, source, progress) as bench:
            facts = bench.facts
            origin = {**provenance(facts.machine), **state}
            known = (facts.cells, facts.infeasible, facts.identity, origin)
            records = Work(*known, store, progress, bench.engine).records(bench.instruments)
        yield records
