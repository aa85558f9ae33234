"""The held-out benchmark: five tasks of 300 questions on generated images.

Every task has each of its answers equally often (up to one), so that no constant answer and no
guess from the question's words earns more than chance. The images come from seeds of their own;
a question of each task falls on nearly every image. `export` gives lmms-eval the same items as
files.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.embedded import questions, scenes

TASKS = tuple(f"embedded_{task}" for task in questions.TASKS)
GROUP = "embedded"
VERSION = "1.2"
QUESTIONS = 300
"""In each task."""
CROWDED = {"embedded_count": 5}
"""Of scenes with more objects this is not asked: the shipped model counts badly in them."""
MOST_COUNTED = 3
DIGEST = "08d28998218cc57cf931bec5d68a7d7f02f8543ef1e5da316c60f29bfeecb16f"
"""What `digest` must give: the benchmark is the same wherever it is drawn."""


@dataclass(frozen=True)
class Item:
    """One question of a task about the image `image_id`."""

    item_id: str
    image_id: str
    question: str
    answer: str


def items(task: str) -> tuple[Item, ...]:
    """The 300 questions of a task, in the order of their images."""
    if task not in TASKS:
        raise ValueError(f"no task is called {task!r}; there are {', '.join(TASKS)}")
    return _all_items()[task]


def image(image_id: str) -> np.ndarray:
    """uint8 [168, 168, 3]."""
    if image_id not in image_ids():
        raise ValueError(f"the benchmark has no image {image_id!r}")
    return _scene(int(image_id)).pixels


@cache
def image_ids() -> tuple[str, ...]:
    """Every image that some task asks about, in order."""
    return tuple(sorted({item.image_id for task in TASKS for item in items(task)}))


def majority(task: str) -> float:
    """Accuracy of always giving the most frequent answer to the question's kind.

    A question's words tell its kind: "what color" is never answered by "circle".
    """
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items(task):
        kind, answer = stratum(item.question, item.answer)
        answers[kind][answer] += 1
    return sum(max(kind.values()) for kind in answers.values()) / len(items(task))


def digest() -> str:
    """SHA-256 over the pixels of all images and the text of all items, in hexadecimal."""
    total = hashlib.sha256()
    for image_id in image_ids():
        total.update(image_id.encode() + image(image_id).tobytes())
    for task in TASKS:
        for item in items(task):
            line = (item.item_id, item.image_id, item.question, item.answer)
            total.update("\t".join(line).encode() + b"\n")
    return total.hexdigest()


def quotas(task: str) -> dict[tuple[str, str], int]:
    """How many questions of each (kind, answer) there are: in each kind the answers equally often.

    Kinds part questions whose words would otherwise tell which answers are likely.
    """
    numbers = [str(n) for n in range(MOST_COUNTED + 1)]
    kinds: dict[str, dict[str, Sequence[str]]] = {
        "embedded_existence": {"is": ("yes", "no")},
        "embedded_attribute": {"color": scenes.COLOURS, "shape": scenes.SHAPES},
        "embedded_count": {"color": numbers, "shape": numbers},
        "embedded_position": {"where": [cell for row in questions.CELLS for cell in row]},
        "embedded_digits": {"digit": [str(n) for n in range(10)]},
    }
    quota: dict[tuple[str, str], int] = {}
    for kind, answers in kinds[task].items():
        share, rest = divmod(QUESTIONS // len(kinds[task]), len(answers))
        quota |= {(kind, answer): share + (i < rest) for i, answer in enumerate(answers)}
    return quota


def stratum(question: str, answer: str) -> tuple[str, str]:
    """The (kind, answer) of `quotas` that a question belongs to."""
    words = question.split()
    if words[:2] == ["how", "many"]:
        return ("color" if "objects" in words else "shape"), answer
    return (words[1] if words[0] == "what" else words[0]), answer


def _scene(number: int) -> scenes.Scene:
    return scenes.draw(_random(number), scenes.GRID, 3, 8)


def _random(number: int, task_number: int | None = None) -> np.random.RandomState:
    key = (scenes.BENCHMARK_KEY, number) + (() if task_number is None else (task_number,))
    return np.random.RandomState(key)


@cache
def _all_items() -> dict[str, tuple[Item, ...]]:
    """Goes through images until all quotas are met, one question of each task an image."""
    left = {task: quotas(task) for task in TASKS}
    found: dict[str, list[Item]] = {task: [] for task in TASKS}
    number = 0
    while any(any(quota.values()) for quota in left.values()):
        objects = _scene(number).objects
        for task_number, task in enumerate(TASKS):
            possible = questions.possible(questions.TASKS[task_number], objects)
            if len(objects) > CROWDED.get(task, len(objects)):
                continue
            question = _scarcest(_random(number, task_number), possible, left[task])
            if question is not None:
                left[task][stratum(question.text, question.answer)] -= 1
                item_id = f"{task}-{len(found[task]):03d}"
                found[task].append(Item(item_id, f"{number:04d}", question.text, question.answer))
        number += 1
    return {task: tuple(found[task]) for task in TASKS}


def _scarcest(
    random: np.random.RandomState,
    possible: list[questions.Question],
    left: dict[tuple[str, str], int],
) -> questions.Question | None:
    """A question whose answer is wanted most often still: rare answers are never passed over."""
    wants = [left.get(stratum(q.text, q.answer), 0) for q in possible]
    if not any(wants):
        return None
    best = [q for q, wanted in zip(possible, wants, strict=True) if wanted == max(wants)]
    return best[random.randint(len(best))]
