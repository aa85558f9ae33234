"""What is asked for, held against what there is before a weight is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput
from harness.records.file import unwritable
from harness.records.share import Share
from harness.run.request import Match, Per, Request, cells_of

if TYPE_CHECKING:
    from harness.models.load import Source


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
    _check_budget_per(request)
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


def _check_budget_per(request: Request) -> None:
    if request.budget_per == Per.SAMPLE:
        return
    if request.match == Match.FLOPS:
        raise BadInput("--budget-per image takes --match tokens: FLOPs are those of a question")
    if any(isinstance(budget, Share) for budget in request.budgets):
        raise BadInput(
            "--budget-per image takes budgets in tokens: a share of each image's tokens is one of "
            "the question's"
        )


def with_members(request: Request) -> Request:
    """Groups of tasks written out. Raises BadInput for what is no task, without loading data."""
    if not request.accuracy:
        return request
    from harness.accuracy.lmms.tasks import members

    return replace(request, tasks=members(request.tasks))
