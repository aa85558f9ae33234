"""How far it is from the command line to a printed row: the project's own calls, counted.

`python tests/benchmarks/trace_compare.py`; of another checkout with `PYTHONPATH=CHECKOUT` before
it. Runs one small `harness compare` and prints its calls on the way to a question's answer and on
the way to the line of its table, and how many functions of how many files ran.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType

ARGUMENTS = (
    *("compare", "--methods", "vitcop", "--budgets", "64", "--tasks", "embedded_count"),
    *("--limit", "2", "--no-efficiency", "--model", "tiny", "--device", "cpu"),
)
ANSWER, ROW = "Answerer.answer", "plain.<locals>.line"
"""What a question's way ends in, and what writes a table's line."""
PARTS = ("<lambda>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<module>")
"""Of a function, not functions."""


class Tracer:
    """Own functions that ran, and the longest way to each of those that end a way."""

    def __init__(self, root: Path) -> None:
        self.folders = tuple(f"{root / name}/" for name in ("harness", "methods", "baselines"))
        self.ran: set[tuple[str, str]] = set()
        self.ways: dict[str, list[str]] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not self.is_own(code):
            return
        self.ran.add((code.co_filename, code.co_qualname))
        if code.co_qualname in (ANSWER, ROW):
            self.ways.setdefault(code.co_qualname, self.way(frame))

    def is_own(self, code: CodeType) -> bool:
        return code.co_filename.startswith(self.folders) and code.co_name not in PARTS

    def way(self, frame: FrameType | None) -> list[str]:
        """Own calls that are not finished yet, the first of them first."""
        names: list[str] = []
        while frame is not None:
            if self.is_own(frame.f_code):
                file = Path(frame.f_code.co_filename)
                names.append(f"{file.parent.name}/{file.name} {frame.f_code.co_qualname}")
            frame = frame.f_back
        return list(dict.fromkeys(reversed(names)))


def command_line() -> Callable[[list[str]], int]:
    try:
        from harness.cli.app import main
    except ImportError:  # before the rooms
        from harness.cli import main
    return main


def main() -> int:
    """Prints both ways."""
    import harness

    tracer, run = Tracer(Path(str(harness.__file__)).parents[1]), command_line()
    with TemporaryDirectory() as folder:
        sys.setprofile(tracer)
        status = run([*ARGUMENTS, "--output", folder])
        sys.setprofile(None)
    for what, end in (("answer", ANSWER), ("row", ROW)):
        way = tracer.ways[end]
        print(f"\nmain to the {what}: {len(way)} calls in {len({w.split()[0] for w in way})} files")
        print("\n".join(f"  {name}" for name in way))
    both = list(dict.fromkeys([*tracer.ways[ANSWER], *tracer.ways[ROW]]))
    files = {file for file, _ in tracer.ran}
    print(
        f"\n{len(both)} calls on both ways; {len(tracer.ran)} functions of {len(files)} files ran"
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
