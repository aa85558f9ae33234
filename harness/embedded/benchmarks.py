"""The embedded benchmarks: one of images and one of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.embedded import benchmark
from harness.embedded.benchmark import Item
from harness.embedded.video import benchmark as video


@dataclass(frozen=True)
class Benchmark:
    """`group` stands for all of its tasks, each of which has 300 questions.

    `majority` gives the accuracy of always giving the most frequent answer to a question's kind.
    """

    group: str
    tasks: tuple[str, ...]
    version: str
    digest: str
    items: Callable[[str], tuple[Item, ...]]
    majority: Callable[[str], float]


BENCHMARKS = tuple(
    Benchmark(of.GROUP, of.TASKS, of.VERSION, of.DIGEST, of.items, of.majority)
    for of in (benchmark, video)
)
TASKS = tuple(task for each in BENCHMARKS for task in each.tasks)


def benchmark_of(task: str) -> Benchmark:
    """Raises ValueError for an unknown task."""
    for each in BENCHMARKS:
        if task in each.tasks:
            return each
    raise ValueError(f"no task is called {task!r}; there are {', '.join(TASKS)}")


def groups(tasks: Sequence[str]) -> dict[str, list[str]]:
    """Tasks by the group that each belongs to."""
    found: dict[str, list[str]] = {}
    for task in tasks:
        found.setdefault(benchmark_of(task).group, []).append(task)
    return found
