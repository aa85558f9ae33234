"""What a comparison is asked to do, checked before any work is done or anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput, unknown
from harness.models.protocols import HF, OWN, Protocol, protocol_of
from harness.records.cell import CONTROLS, UNPRUNED, Cell, MethodSpec, unpruned
from harness.records.file import check_file
from harness.records.form import MOST_COUNT

if TYPE_CHECKING:
    from methods.interface import Sizes

ALL = "all"
EMBEDDED = "embedded"
TOKENS, FLOPS = "tokens", "flops"
MATCHES = (TOKENS, FLOPS)
MOST_SEED = 2**31 - 1
CONTROL_SEEDS = 5
"""`--controls` runs `random` with this many seeds."""

Feasible = tuple[int | None, int | None]


@dataclass(frozen=True)
class Request:
    """Options of `harness compare`, read but not yet held against a model."""

    methods: tuple[MethodSpec, ...]
    budgets: tuple[int, ...]
    tasks: tuple[str, ...]
    model: str
    limit: int | None
    batch_size: int
    device: str
    dtype: str
    attention: str
    controls: bool
    accuracy: bool
    efficiency: bool
    repeats: int
    seed: int
    output: Path
    fresh: bool
    match: str = TOKENS
    report: bool = False
    protocol: Protocol = OWN


def read_request(
    *,
    methods: str,
    budgets: str,
    tasks: str,
    limit: int | None,
    batch_size: int,
    repeats: int,
    accuracy: bool,
    efficiency: bool,
    output: Path,
    match: str = TOKENS,
    protocol: str = HF,
    chat_template: Path | None = None,
    **others: Any,
) -> Request:
    """The command line's options, each checked by itself. Raises BadInput and PruningError."""
    if match not in MATCHES:
        raise unknown("--match", match, MATCHES)
    if not (accuracy or efficiency):
        raise BadInput("--no-accuracy with --no-efficiency leaves nothing to do; give one of them")
    if others.get("report") and not accuracy:
        raise BadInput("--report shows answers; it does not go with --no-accuracy")
    _check_positive(limit=limit, batch_size=batch_size, repeats=repeats)
    if not 0 <= others["seed"] <= MOST_SEED:
        raise BadInput(f"--seed is a whole number from 0 to {MOST_SEED}, not {others['seed']}")
    check_output(output)
    if others.get("report"):
        check_file(output / "report.html", replace=True)
    return Request(
        methods=parse_methods(methods),
        budgets=parse_budgets(budgets),
        tasks=parse_tasks(tasks),
        limit=limit,
        batch_size=batch_size,
        repeats=repeats,
        accuracy=accuracy,
        efficiency=efficiency,
        output=output,
        match=match,
        protocol=protocol_of(protocol, chat_template),
        **others,
    )


def words(option: str, text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, each once. Raises BadInput if there is none."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise BadInput(f"{option} is a comma-separated list, not {text!r}")
    return parts


def parse_methods(text: str) -> tuple[MethodSpec, ...]:
    """Method specifications without unpruned, which always runs; equal methods once.

    Raises BadInput, also for two that have one name, and PruningError for an unknown method or
    setting.
    """
    names = words("--methods", text)
    if ALL in names:
        from methods.registry import methods

        listed = [name for name in names if name != ALL]
        names = tuple(dict.fromkeys([*methods(), *listed]))
    found = [MethodSpec.parse(name).pinned() for name in names]
    specs = list(reversed({spec.build(): spec for spec in reversed(found)}.values()))
    _check_texts(specs)
    return tuple(spec for spec in specs if spec.known_as != UNPRUNED)


def _check_texts(specs: Sequence[MethodSpec]) -> None:
    """Raises BadInput for two methods that records and tables would call the same."""
    files: dict[str, Path | None] = {}
    for spec in specs:
        if spec.text in files:
            raise BadInput(
                f"{spec.text} is asked for from {files[spec.text]} and from {spec.file}, which no "
                "table could tell apart; rename one of the files"
            )
        files[spec.text] = spec.file


def parse_tasks(text: str) -> tuple[str, ...]:
    """Task names, `embedded` written out. Raises BadInput for an empty list."""
    from harness.embedded import benchmark

    names = words("--tasks", text)
    return tuple(
        dict.fromkeys(
            task for name in names for task in (benchmark.TASKS if name == EMBEDDED else (name,))
        )
    )


def parse_budgets(text: str) -> tuple[int, ...]:
    """Whole numbers of visual tokens, from large to small. Raises BadInput."""
    return tuple(sorted({_budget(word) for word in words("--budgets", text)}, reverse=True))


def _budget(word: str) -> int:
    try:
        tokens = int(word)
    except ValueError:
        tokens = 0
    if tokens < 1:
        raise BadInput(f"a budget is a whole number of visual tokens from 1 up, not {word!r}")
    return tokens


def percentage(option: str, text: str) -> float:
    """`5%` or `5` as 0.05. Raises BadInput for anything but a percentage from 0 up."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        raise BadInput(f"{option} is a percentage from 0 up, such as 5%, not {text!r}")
    return share


def _check_positive(**options: int | None) -> None:
    """Raises BadInput for a value below 1, or one that no record could hold; None is allowed."""
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None and value < 1:
            raise BadInput(f"{option} is a whole number from 1 up, not {value}")
        if value is not None and value > MOST_COUNT:
            raise BadInput(f"{option} is at most {MOST_COUNT}, not {value}")


def check_output(directory: Path) -> None:
    """Raises BadInput unless records could be written there; writes nothing."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise BadInput(f"--output {directory} is no directory: {existing} is a file")
    try:
        # has no name where the system can do that, and is gone at once elsewhere
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"--output {directory} cannot be written: {reason} in {existing}") from error


def cells_of(request: Request) -> tuple[Cell, ...]:
    """Unpruned, then budget by budget the methods and the controls."""
    first = unpruned(request.seed)
    return (first, *(cell for budget in request.budgets for cell in _at(request, budget)))


def _at(request: Request, budget: int) -> Iterable[Cell]:
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
    where they reach up to it.
    """
    from methods.interface import Budget, InfeasibleBudgetError

    if cell.budget is None:
        return None
    try:
        cell.method.build().plan(Budget(cell.budget), sizes)
    except InfeasibleBudgetError as error:
        return (error.low, sizes.tokens if error.high == sizes.tokens - 1 else error.high)
    return None


def _no_method_meets(budget: int, feasible: Mapping[MethodSpec, Feasible]) -> str:
    ranges = [
        f"{spec.text} {'none' if low is None else f'{low} to {high}'}"
        for spec, (low, high) in feasible.items()
    ]
    return (
        f"budget {budget} is infeasible for every requested method; feasible: {', '.join(ranges)}"
    )
