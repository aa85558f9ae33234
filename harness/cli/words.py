"""What the words of a command line mean, each option's by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from tempfile import TemporaryFile

from harness.errors import BadInput, unknown
from harness.records.cell import UNPRUNED, Amount, MethodSpec, amount_of
from harness.records.share import Share
from harness.run.request import Match, Per

ALL = "all"
EMBEDDED = "embedded"
FEWER_FRAMES = "frames"
"""The control that only videos have."""
MOST_FRAMES = 4096
"""Of a video."""


def parts(option: str, text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, each once. Raises BadInput if there is none."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise BadInput(f"{option} is a comma-separated list, not {text!r}")
    return found


def parse_methods(
    text: str, videos: bool = False, controls: bool = False
) -> tuple[MethodSpec, ...]:
    """Method specifications without unpruned, which always runs; equal methods once.

    Where `videos` are shown, `all` has those that are made for them, too, and `controls` begin
    with fewer frames. Raises BadInput, also for two that have one name, and for an unknown method
    or setting.
    """
    names = parts("--methods", text)
    names += (FEWER_FRAMES,) * (videos and controls)
    if ALL in names:
        from methods.registry import methods

        listed = [name for name in names if name != ALL]
        known = methods().items()
        every = [n for n, m in known if not m.resizes and (videos or not m.of_video)]
        names = tuple(dict.fromkeys([*every, *listed]))
    with method_blamed():
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


@contextmanager
def method_blamed() -> Iterator[None]:
    """What a method cannot do is the user's to mend. Raises BadInput for PruningError."""
    from methods.interface import PruningError

    try:
        yield
    except PruningError as error:
        raise BadInput(str(error)) from error


def parse_tasks(text: str) -> tuple[str, ...]:
    """Task names, embedded groups written out. Raises BadInput for an empty list."""
    names, groups = parts("--tasks", text), _embedded_groups()
    return tuple(dict.fromkeys(task for name in names for task in groups.get(name, (name,))))


def tasks_for(model: str) -> tuple[str, ...]:
    """What a model is asked where no tasks are given: an embedded one its own, others images."""
    groups = _embedded_groups()
    return groups.get(model, groups[EMBEDDED])


def _embedded_groups() -> dict[str, tuple[str, ...]]:
    from harness.embedded.benchmarks import BENCHMARKS

    return {each.group: each.tasks for each in BENCHMARKS}


def shows_videos(tasks: Sequence[str]) -> bool:
    """Whether a task is one of the embedded ones about clips; of others it is known too late."""
    from harness.embedded.video.benchmark import TASKS

    return any(task in TASKS for task in tasks)


def parse_budgets(text: str) -> tuple[Amount, ...]:
    """Whole numbers of visual tokens, then shares, each from large to small. Raises BadInput."""
    found = dict.fromkeys(map(_budget, parts("--budgets", text)))
    return tuple(sorted(found, key=lambda budget: (isinstance(budget, Share), -budget)))


def _budget(word: str) -> Amount:
    try:
        return amount_of(word)
    except ValueError:
        raise BadInput(
            "a budget is a whole number of visual tokens from 1 up, or a share of them such as "
            f"33% or 1/9, not {word!r}"
        ) from None


def parse_batch_sizes(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 up, in the order given. Raises BadInput."""
    return _whole_numbers("--batch-size", "a batch size is a whole number", text)


def parse_timed_frames(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 to `MOST_FRAMES`, in the order given. Raises BadInput."""
    found = _whole_numbers("--frames", "a number of frames is a whole number", text)
    if max(found) > MOST_FRAMES:
        raise BadInput(f"--frames is at most {MOST_FRAMES}, not {max(found)}")
    return found


def _whole_numbers(option: str, what: str, text: str) -> tuple[int, ...]:
    found = parts(option, text)
    wrong = [word for word in found if not word.isdecimal() or int(word) < 1]
    if wrong:
        raise BadInput(f"{what} from 1 up, not {wrong[0]!r}")
    return tuple(dict.fromkeys(map(int, found)))


def parse_match(text: str) -> Match:
    """Raises BadInput with the nearest word."""
    if text not in tuple(Match):
        raise unknown("--match", text, Match)
    return Match(text)


def parse_budget_per(text: str) -> Per:
    """Raises BadInput with the nearest word."""
    if text not in tuple(Per):
        raise unknown("--budget-per", text, Per)
    return Per(text)


def percentage(option: str) -> Callable[[str], float]:
    """Reads `5%` or `5` as 0.05. Raises BadInput for anything but a percentage from 0 up."""

    def percent(text: str) -> float:
        try:
            share = float(text.strip().removesuffix("%")) / 100
        except ValueError:
            share = -1.0
        if not 0 <= share < inf:
            raise BadInput(f"{option} is a percentage from 0 up, such as 5%, not {text!r}")
        return share

    return percent


def above_zero(option: str) -> Callable[[str], float]:
    """Reads a number. Raises BadInput for one that is not finite and above 0."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < inf:
            raise BadInput(f"{option} is a number above 0, not {text}")
        return value

    return number


def directory(text: str) -> Path:
    """Raises BadInput unless files could be written there; writes nothing.

    Object stores have no lock, and no rename that is all or nothing: no record is safe there.
    """
    if "://" in str(text):
        raise BadInput(
            f"--output {text} is an address; allowed: a directory, on a disk that several machines "
            "may share, from which records can be copied to an object store"
        )
    path = Path(text)
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise BadInput(f"--output {path} is no directory: {existing} is a file")
    try:
        # has no name where the system can do that, and is gone at once elsewhere
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"--output {path} cannot be written: {reason} in {existing}") from error
    return path
