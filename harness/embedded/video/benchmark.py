"""The held-out video benchmark: five tasks of 300 questions on generated clips.

As in the image benchmark every answer to a kind of question occurs equally often (up to one), and
the clips come from seeds of their own. No single frame answers a question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from harness.embedded.benchmark import Item, Quotas, digest_of, evenly, fill, most_frequent
from harness.embedded.questions import CELLS
from harness.embedded.scenes import BENCHMARK_KEY, COLOURS, SHAPES
from harness.embedded.video import clips, questions

GROUP = "embedded-video"
TASKS = tuple(f"embedded_video_{task}" for task in questions.TASKS)
VERSION = "1.0"
DIGEST = "059c6904e6e5437e0c30427bc510f7214439f5acc38745c70d188b0e28c2ae23"
"""What `digest` must give: the benchmark is the same wherever it is drawn."""


def items(task: str) -> tuple[Item, ...]:
    """The 300 questions of a task, in the order of their clips."""
    if task not in TASKS:
        raise ValueError(f"no task is called {task!r}; there are {', '.join(TASKS)}")
    return _all_items()[task]


def clip(clip_id: str) -> np.ndarray:
    """uint8 [8, 112, 112, 3]."""
    if clip_id not in clip_ids():
        raise ValueError(f"the benchmark has no clip {clip_id!r}")
    return clips.draw(np.random.RandomState(_key(int(clip_id)))).frames


@cache
def clip_ids() -> tuple[str, ...]:
    """Every clip that some task asks about, in order."""
    return tuple(sorted({item.image_id for task in TASKS for item in items(task)}))


def majority(task: str) -> float:
    """Accuracy of always giving the most frequent answer to the question's kind."""
    return most_frequent(items(task), stratum)


def digest() -> str:
    """SHA-256 over the pixels of all clips and the text of all items, in hexadecimal."""
    return digest_of(((i, clip(i)) for i in clip_ids()), map(items, TASKS))


def quotas(task: str) -> Quotas:
    """How many questions of each (kind, answer) there are."""
    times, ends = ("start", "end"), ("first", "last")
    cells = [cell for row in CELLS for cell in row]
    numbers = [str(number) for number in range(questions.MOST_COUNTED + 1)]
    kinds: dict[str, dict[str, Sequence[str]]] = {
        "embedded_video_direction": {"way": tuple(clips.WAYS)},
        "embedded_video_order": {
            f"{what} {end}": answers
            for what, answers in (("color", COLOURS), ("shape", SHAPES))
            for end in ends
        },
        "embedded_video_change": dict.fromkeys(times, COLOURS),
        "embedded_video_place": dict.fromkeys(times, cells),
        "embedded_video_events": {"appear": numbers, "move": numbers[1:]},  # one always moves
    }
    return evenly(kinds[task])


def stratum(question: str, answer: str) -> tuple[str, str]:
    """The (kind, answer) of `quotas` that a question belongs to."""
    words = question.split()
    if words[0] == "which":
        return "way", answer
    if words[2] == "appears":
        return f"{words[1]} {words[-2]}", answer
    return words[-2], answer


def _key(number: int, *more: int) -> tuple[int, ...]:
    return BENCHMARK_KEY, len(TASKS), number, *more


@cache
def _all_items() -> dict[str, tuple[Item, ...]]:
    def asked(number: int) -> Iterator[Sequence[questions.Question]]:
        tracks = clips.tracked(np.random.RandomState(_key(number)))
        for task in questions.TASKS:
            yield questions.possible(task, tracks)

    def random(number: int, task_number: int) -> np.random.RandomState:
        return np.random.RandomState(_key(number, task_number + 1))

    return fill({task: quotas(task) for task in TASKS}, asked, stratum, random)
