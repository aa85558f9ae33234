"""What is asked for is checked, then measured: one way for every command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput, warn
from harness.models.placement import machine
from harness.records.cell import Cell
from harness.records.file import unwritable
from harness.records.provenance import code_digest, provenance, versions
from harness.records.record import Record
from harness.records.share import Share
from harness.records.store import opened
from harness.run.cells import Work
from harness.run.instruments import instruments_of
from harness.run.progress import progress_on
from harness.run.request import (
    Feasible,
    Match,
    Request,
    cells_of,
    check_budgets,
    check_some_meet,
    infeasible_cells,
)

if TYPE_CHECKING:
    from harness.models.load import LoadedModel, Source


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
    source, state = checked(request)
    request = with_members(request)
    with opened(request.output, warn, request.fresh) as store:
        loaded = source.load()
        images = request.images or source.images
        cells, infeasible = cells_for(request, loaded, images)
        instruments = instruments_of(request, loaded, images)
        origin = {**provenance(machine(loaded.device)), **state}
        progress = progress_on(sys.stderr, told)
        work = Work(cells, infeasible, identity_of(loaded), origin, store, progress)
        yield work.records(instruments)


def checked(request: Request) -> tuple[Source, dict[str, Any]]:
    """The model that is asked for; and what the records' origin says of the GPU before.

    Raises BadInput for all that can be seen without loading a weight.
    """
    from harness.models.load import resolve

    for cell in cells_of(request):
        if wrong := unwritable(cell.identity()["settings"]):
            raise BadInput(f"{cell.method.text}: {wrong}; a setting must be a finite number")
    if request.limit is not None and request.samples_per_task is not None:
        raise BadInput(
            "--limit asks the first questions, --samples-per-task draws; give one of them"
        )
    if request.match == Match.FLOPS and any(isinstance(b, Share) for b in request.budgets):
        raise BadInput("--match flops takes budgets in tokens, no shares of them")
    asked = (request.model, request.device, request.dtype, request.attention, request.protocol)
    source = resolve(*asked)
    if request.accuracy and not source.can_answer:
        raise BadInput(
            f"{source.name} has random weights and no tokenizer; it can be timed with --no-accuracy"
        )
    if request.allow_busy is None:
        return source, {}
    from harness.efficiency.trackers.gpu import check_idle

    state = check_idle(source.placement.device, request.allow_busy)
    return source, {"gpu_before": state, "allow_busy": request.allow_busy}


def with_members(request: Request) -> Request:
    """Groups of tasks written out. Raises BadInput for what is no task, without loading data."""
    if not request.accuracy:
        return request
    from harness.accuracy.lmms.tasks import members

    return replace(request, tasks=members(request.tasks))


def cells_for(
    request: Request, loaded: LoadedModel, images: int
) -> tuple[Sequence[Cell], Mapping[Cell, Feasible]]:
    """All cells of the request, and those that cannot be, with the budgets that can: where an
    image's tokens depend on the image, that is seen when it is asked about.

    Budgets of FLOPs are those of a short question about one image, or else of the timed prompt.
    """
    from harness.models.shapes import shape_of, sizes_of

    sizes = sizes_of(loaded.model, images)
    if request.match == Match.TOKENS:
        infeasible = {} if sizes is None else infeasible_cells(request, sizes)
        return cells_of(request), infeasible
    if sizes is None:
        raise BadInput(
            f"--match flops needs images of one number of tokens, and those of {loaded.name} "
            "depend on the image; allowed: --match tokens"
        )
    from harness.run.matching import matched_cells

    check_budgets(request, sizes)
    text = question_tokens(loaded) if request.accuracy else request.prompt_tokens
    cells, infeasible = matched_cells(cells_of(request), sizes, shape_of(loaded.model), text)
    check_some_meet(request, infeasible)
    return cells, infeasible


def question_tokens(loaded: LoadedModel) -> int:
    """Text tokens of the prompt of a short question about one image."""
    prompt = loaded.protocol.prompt(loaded.processor, "how many red objects ?", 1)
    return len(loaded.processor.tokenizer(prompt)["input_ids"]) - 1  # one stands for the image


def identity_of(loaded: LoadedModel) -> dict[str, Any]:
    """What every record of this comparison shares."""
    return {
        "model": loaded.name,
        "model_digest": loaded.digest,
        "dtype": loaded.dtype,
        "attention": loaded.attention,
        "device": loaded.device,
        "code_digest": code_digest(),
        "versions": versions(),
        **loaded.protocol.identity(),
    }
