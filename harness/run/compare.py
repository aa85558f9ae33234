"""`harness compare`: everything is checked, then the model works, then the tables are printed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput, warn
from harness.models.placement import machine
from harness.models.presets import images_of, is_preset
from harness.records.cell import Cell
from harness.records.file import file_name, read, readable, unwritable
from harness.records.provenance import code_digest, provenance, versions
from harness.records.record import Record
from harness.records.store import Store, opened
from harness.run.cells import AccuracyRunner, Measure, Work
from harness.run.progress import Progress, progress_on
from harness.run.request import (
    TOKENS,
    Feasible,
    Request,
    cells_of,
    check_budgets,
    check_some_meet,
    infeasible_cells,
)
from harness.tables.layouts import tables
from harness.tables.table import Table, comma_separated, markdown, show

if TYPE_CHECKING:
    from harness.efficiency.workload import Load

INTERRUPTED = 130


@dataclass(frozen=True)
class Tools:
    """What measures: the instruments of accuracy and efficiency, or stand-ins."""

    accuracy: AccuracyRunner | None
    measure: Measure | None
    timing: dict[str, Any]


def compare(request: Request) -> int:
    """Exit status: 0, 1 if a cell failed, 130 after Ctrl-C. Raises BadInput and PruningError."""
    with prepared(request) as (work, tools):
        return perform(request, work, tools)


@contextmanager
def prepared(request: Request) -> Iterator[tuple[Work, Tools]]:
    """The checked work and what measures it, with the model loaded; meanwhile no other process may
    use the output directory. Raises as `compare` does.
    """
    from harness.models.load import check_model, load_model

    check_settings(request)
    asked = (request.model, request.device, request.dtype, request.attention, request.protocol)
    check_model(*asked)
    if request.accuracy:
        check_answers(request.model)
        from harness.accuracy.lmms.tasks import check_tasks

        check_tasks(request.tasks)
    with opened(request.output, warn, request.fresh) as store:
        loaded = load_model(*asked)
        load = load_of(request)
        text = load.prompt_tokens
        if request.accuracy and request.match != TOKENS:
            text = question_tokens(loaded)
        cells, infeasible = cells_for(request, loaded, load.images, text)
        progress = progress_on(sys.stderr)
        try:
            yield (
                Work(
                    cells,
                    infeasible,
                    identity_of(loaded, request.batch_size),
                    provenance(machine(loaded.device)),
                    store,
                    progress,
                ),
                _tools(request, loaded),
            )
        finally:
            progress.stop()


def check_settings(request: Request) -> None:
    """Raises BadInput for a setting that no record could name, such as NaN."""
    for cell in cells_of(request):
        if wrong := unwritable(cell.identity()["settings"]):
            raise BadInput(f"{cell.method.text}: {wrong}; a setting must be a finite number")


def cells_for(
    request: Request, loaded: Any, images: int, text: int
) -> tuple[Sequence[Cell], Mapping[Cell, Feasible]]:
    """All cells of the request, and those that cannot be, with the budgets that can.

    Budgets of FLOPs are those of a prompt with so many images and text tokens.
    """
    from methods.adapters import adapter_for

    adapter = adapter_for(loaded.model)
    shape = adapter.shape()
    sizes = adapter.sizes(images * shape.image_tokens)
    if request.match == TOKENS:
        return cells_of(request), infeasible_cells(request, sizes)
    from harness.run.matching import matched_cells

    check_budgets(request, sizes)
    cells, infeasible = matched_cells(cells_of(request), sizes, shape, text)
    check_some_meet(request, infeasible)
    return cells, infeasible


def question_tokens(loaded: Any) -> int:
    """Text tokens of the prompt of a short question about one image."""
    prompt = loaded.protocol.prompt(loaded.processor, "how many red objects ?", 1)
    return len(loaded.processor.tokenizer(prompt)["input_ids"]) - 1  # one stands for the image


def load_of(request: Request) -> Load:
    """What `compare` times."""
    from harness.efficiency.workload import Load

    return Load(request.batch_size, images_of(request.model), seed=request.seed)


def perform(request: Request, work: Work, tools: Tools) -> int:
    """All work that is asked for, then the tables; see `compare`."""

    def report(done: Sequence[Record]) -> None:
        if request.report:
            _write_report(done, request)

    return conclude(lambda: measure(request, work, tools), work.store, work.progress, report)


def conclude(
    records: Callable[[], Iterable[Record]],
    store: Store,
    progress: Progress,
    report: Callable[[Sequence[Record]], None] = lambda done: None,
) -> int:
    """Do the work that makes the records, then print and keep their tables; the exit status."""
    try:
        done = list(records())
    except KeyboardInterrupt:
        progress.stop()
        warn(_interrupted(store))
        return INTERRUPTED
    finally:
        progress.stop()
    found = tables(done)
    try:
        _keep_tables(found, store)
        report(done)
    finally:  # the terminal may fail, and so may the files
        show(found, sys.stdout)
    return int(any(table.failed for table in found))


def check_answers(name: str) -> None:
    """Raises BadInput for a model that cannot be asked anything."""
    if is_preset(name):
        raise BadInput(
            f"{name} has random weights and no tokenizer; it can be timed with --no-accuracy"
        )


def measure(request: Request, work: Work, tools: Tools) -> list[Record]:
    """Outlines of the records of all work that is asked for. Raises BadInput."""
    records: list[Record] = []
    if tools.accuracy is not None:
        records += work.accuracy(tools.accuracy, request.tasks, request.limit)
    if tools.measure is not None:
        records.append(work.efficiency(tools.measure, tools.timing))
    return records


def _tools(request: Request, loaded: Any) -> Tools:
    accuracy, measure = None, None
    settings: dict[str, Any] = {}
    if request.accuracy:
        from harness.accuracy.instrument import Accuracy

        accuracy = Accuracy(loaded, request.tasks, request.limit, request.batch_size)
        for method in request.methods:  # so that the tower runs once for all of them
            accuracy.store.expect(method.build().tower_reads)
    if request.efficiency:
        from harness.run.efficiency import measuring

        measure, settings = measuring(loaded, request.repeats, load_of(request))
    return Tools(accuracy, measure, settings)


def _interrupted(store: Store) -> str:
    return (
        f"interrupted; the records of all finished cells are kept in {store.directory}, "
        f"{store.written} of them from this run; the same command goes on from there"
    )


def identity_of(loaded: Any, batch_size: int) -> dict[str, Any]:
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
        **loaded.protocol.identity(),
    }


def _write_report(records: Sequence[Record], request: Request) -> None:
    """The page of this comparison's records, read again whole."""
    from harness.tables.page import write_report

    output = request.output / "report.html"
    paths = [request.output / file_name(record.body) for record in records]
    write_report(list(readable(paths, warn, read)), output, force=True)
    warn(f"the report is {output}")


def _keep_tables(found: Sequence[Table], store: Store) -> None:
    """`accuracy.md`, `accuracy.csv`, `efficiency-batch-1.md` and so on, beside the records."""
    for table in found:
        name = re.sub(r"\W+", "-", table.title.lower())
        for suffix, write in ((".md", markdown), (".csv", comma_separated)):
            store.keep_text(f"{name}{suffix}", write(table))
