"""`harness compare`: everything is checked, then the model works, then the tables are printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.progress import progress_on
from harness.provenance import code_digest, provenance, versions
from harness.record import Record, file_name, read
from harness.render import Table, comma_separated, markdown, show
from harness.request import Request, cells_of, infeasible_cells
from harness.runs import AccuracyRunner, Measure, Work
from harness.store import Store
from harness.tables import tables

INTERRUPTED = 130


@dataclass(frozen=True)
class Tools:
    """What measures: `harness.accuracy` and `harness.timing`, or stand-ins."""

    accuracy: AccuracyRunner | None
    measure: Measure | None
    timing: dict[str, Any]


def compare(request: Request) -> int:
    """Exit status: 0, 1 if a cell failed, 130 after Ctrl-C. Raises BadInput and PruningError."""
    from harness.models import check_model, load_model
    from methods.adapters import adapter_for

    check_model(request.model, request.device, request.dtype, request.attention)
    if request.accuracy:
        from harness.lmms_tasks import check_tasks

        check_tasks(request.tasks)
    loaded = load_model(request.model, request.device, request.dtype, request.attention)
    adapter = adapter_for(loaded.model)
    infeasible = infeasible_cells(request, adapter.sizes(adapter.shape().image_tokens))
    store = Store(request.output, warn, request.fresh)
    progress = progress_on(sys.stderr)
    work = Work(
        cells_of(request),
        infeasible,
        _identity(loaded, request.batch_size),
        provenance(loaded.device),
        store,
        progress,
    )
    try:
        return perform(request, work, _tools(request, loaded))
    finally:
        progress.stop()


def perform(request: Request, work: Work, tools: Tools) -> int:
    """All work that is asked for, then the tables; see `compare`."""
    records: list[Record] = []
    try:
        if tools.accuracy is not None:
            records += work.accuracy(tools.accuracy, request.tasks, request.limit)
        if tools.measure is not None:
            records.append(work.efficiency(tools.measure, tools.timing))
    except KeyboardInterrupt:
        work.progress.stop()
        warn(_interrupted(work.store))
        return INTERRUPTED
    work.progress.stop()
    found = tables(records)
    show(found, sys.stdout)
    _keep_tables(found, work.store)
    if request.report:
        _write_report(records, request)
    return int(any(table.failed for table in found))


def _tools(request: Request, loaded: Any) -> Tools:
    accuracy, measure, settings = None, None, {}
    if request.accuracy:
        from harness.accuracy import Accuracy

        accuracy = Accuracy(loaded, request.tasks, request.limit, request.batch_size)
    if request.efficiency:
        from harness import timing, workload

        settings = {
            "repeats": request.repeats,
            "warmups": timing.WARMUPS,
            "new_tokens": timing.NEW_TOKENS,
            "prompt": workload.QUESTION,
            "seed": request.seed,
        }
        measure = partial(
            timing.measure,
            loaded,
            repeats=request.repeats,
            batch_size=request.batch_size,
            seed=request.seed,
        )
    return Tools(accuracy, measure, settings)


def warn(line: str) -> None:
    """One line on standard error."""
    print(f"harness: {line}", file=sys.stderr, flush=True)


def _interrupted(store: Store) -> str:
    return (
        f"interrupted; the records of all finished cells are kept in {store.directory}, "
        f"{store.written} of them from this run; the same command goes on from there"
    )


def _identity(loaded: Any, batch_size: int) -> dict[str, Any]:
    """What every record of this comparison shares."""
    return {
        "model": loaded.name,
        "model_digest": loaded.digest,
        "batch_size": batch_size,
        "dtype": loaded.dtype,
        "attention": loaded.attention,
        "device": loaded.device,
        "code_digest": code_digest(),
        "versions": versions(),
    }


def _write_report(records: Sequence[Record], request: Request) -> None:
    """The page of this comparison's records, read again whole."""
    from harness.report import write_report

    output = request.output / "report.html"
    paths = [request.output / file_name(record) for record in records]
    write_report([read(path) for path in paths], output, force=True)
    warn(f"the report is {output}")


def _keep_tables(found: Sequence[Table], store: Store) -> None:
    """`accuracy.md`, `accuracy.csv` and the same of efficiency, beside the records."""
    for table in found:
        for suffix, write in ((".md", markdown), (".csv", comma_separated)):
            store.keep_text(f"{table.title.lower()}{suffix}", write(table))
