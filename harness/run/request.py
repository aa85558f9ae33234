"""What a comparison is asked to do, and which cells that makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from harness.accuracy.shards import QUESTIONS
from harness.errors import BadInput
from harness.models.protocols import OWN, Protocol
from harness.models.videos import FRAMES
from harness.records.cell import (
    CONTROLS,
    Amount,
    Cell,
    MethodSpec,
    budget_of,
    unmeasurable,
    unpruned,
)

if TYPE_CHECKING:
    from methods.interface import Sizes

CONTROL_SEEDS = 5
"""`--controls` runs `random` with this many seeds."""

Feasible = tuple[int | None, int | None]


class Match(StrEnum):
    """What a budget fixes."""

    TOKENS = "tokens"
    FLOPS = "flops"


class Per(StrEnum):
    """What a budget of tokens is of: all images of a question together, or each of them."""

    SAMPLE = "sample"
    IMAGE = "image"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be measured of which model, not yet held against the model.

    Questions are answered at the first of `batch_sizes`, and timed at each: of every task all, the
    first `limit`, or `samples_per_task` that the seed `sample` draws; of a video, `frames` are
    shown. `images` of a timed prompt: None for the model's own number; `timed_frames`: of a video
    in their place, each timed by itself. `most_minutes`: no timed round begins later;
    `memory_gib`: the largest batch in so much is found, too, at the first batch size and number of
    frames; `saturate_gib`: there also the batch at which requests a second stop growing.
    `allow_busy`: whether a busy GPU is measured all the same; None where the GPU is not asked.
    `workers`: so many on a Ray of this machine, or on the cluster at the address `ray`, answer;
    None for this process, or for as many as the cluster has room for.
    """

    methods: tuple[MethodSpec, ...]
    budgets: tuple[Amount, ...]
    model: str
    output: Path
    fresh: bool = False
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "sdpa"
    protocol: Protocol = OWN
    match: Match = Match.TOKENS
    budget_per: Per = Per.SAMPLE
    controls: bool = False
    seed: int = 0
    batch_sizes: tuple[int, ...] = (1,)
    accuracy: bool = True
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    samples_per_task: int | None = None
    sample: int = 0
    frames: int = FRAMES
    report: bool = False
    efficiency: bool = True
    repeats: int = 10
    prompt_tokens: int = 64
    new_tokens: int = 16
    images: int | None = None
    timed_frames: tuple[int, ...] | None = None
    most_minutes: float | None = None
    memory_gib: float | None = None
    saturate_gib: float | None = None
    allow_busy: bool | None = None
    workers: int | None = None
    ray: str | None = None
    shard_questions: int = QUESTIONS


def cells_of(request: Request) -> tuple[Cell, ...]:
    """Unpruned, then budget by budget the methods and the controls."""
    first = unpruned(request.seed)
    return (first, *(cell for budget in request.budgets for cell in _at(request, budget)))


def _at(request: Request, budget: Amount) -> Iterable[Cell]:
    cells = [Cell(spec, budget, request.seed) for spec in request.methods]
    if request.controls:
        stride, random = map(MethodSpec, CONTROLS)
        seeds = range(request.seed, request.seed + CONTROL_SEEDS)
        cells += [Cell(stride, budget, request.seed)]
        cells += [Cell(random, budget, seed) for seed in seeds]
    return dict.fromkeys(cells)


def infeasible_cells(request: Request, sizes: Sizes) -> Mapping[Cell, Feasible]:
    """Cells whose method cannot meet the budget, with the whole budgets that it can.

    Raises BadInput as `check_budgets` and `check_some_meet` do.
    """
    check_budgets(request, sizes)
    found = {}
    for cell in cells_of(request):
        feasible = _feasible_instead(cell, sizes)
        if feasible is not None:
            found[cell] = feasible
    check_some_meet(request, found)
    return found


def check_budgets(request: Request, sizes: Sizes) -> None:
    """Raises BadInput for a budget above the image's tokens."""
    above = [budget for budget in request.budgets if budget > sizes.tokens]
    if above:
        raise BadInput(
            f"budget {above[0]} is above the image's {sizes.tokens} visual tokens; "
            f"allowed: 1 to {sizes.tokens}"
        )


def check_some_meet(request: Request, infeasible: Mapping[Cell, Feasible]) -> None:
    """Raises BadInput for a budget that no requested method can meet."""
    for budget in request.budgets:
        asked = [Cell(spec, budget, request.seed) for spec in request.methods]
        if asked and all(cell in infeasible for cell in asked):
            raise BadInput(_no_method_meets(budget, {c.method: infeasible[c] for c in asked}))


def _feasible_instead(cell: Cell, sizes: Sizes) -> Feasible | None:
    """None where the plan exists; else the feasible budgets, with the whole image as the largest
    where they reach up to it; none for a method that is not defined for these images.
    """
    from methods.interface import InfeasibleBudgetError, PruningError

    if cell.budget is None:
        return None
    try:
        cell.method.build().plan(budget_of(cell), sizes)
    except InfeasibleBudgetError as error:
        return (error.low, sizes.tokens if error.high == sizes.tokens - 1 else error.high)
    except PruningError as error:
        if unmeasurable(error) is None:
            raise
        return None, None
    return None


def _no_method_meets(budget: Amount, feasible: Mapping[MethodSpec, Feasible]) -> str:
    ranges = [
        f"{spec.text} {'none' if low is None else f'{low} to {high}'}"
        for spec, (low, high) in feasible.items()
    ]
    return (
        f"budget {budget} is infeasible for every requested method; feasible: {', '.join(ranges)}"
    )
