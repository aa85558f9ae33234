"""The held-out benchmark: five tasks of 300 questions on generated images.

Every task has each of its answers equally often (up to one), so that no constant answer and no
guess from the question's words earns more than chance. The images come from seeds of their own;
a question of each task falls on nearly every image. `export` gives lmms-eval the same items as
files.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

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


Quotas = dict[tuple[str, str], int]
"""How many questions of each (kind, answer) a task has."""


class Asked(Protocol):
    """A question as `fill` takes it."""

    @property
    def text(self) -> str: ...
    @property
    def answer(self) -> str: ...


@dataclass(frozen=True)
class Item:
    """One question of a task about the image or clip `image_id`."""

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
    return most_frequent(items(task), stratum)


def most_frequent(items: Sequence[Item], stratum: Callable[[str, str], tuple[str, str]]) -> float:
    """Share of questions that the most frequent answer to their kind is right for."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        kind, answer = stratum(item.question, item.answer)
        answers[kind][answer] += 1
    return sum(max(kind.values()) for kind in answers.values()) / len(items)


def digest() -> str:
    """SHA-256 over the pixels of all images and the text of all items, in hexadecimal."""
    return digest_of(((i, image(i)) for i in image_ids()), map(items, TASKS))


def digest_of(pictures: Iterable[tuple[str, np.ndarray]], tasks: Iterable[Sequence[Item]]) -> str:
    """SHA-256 over pictures by their names and the text of all items, in hexadecimal."""
    total = hashlib.sha256()
    for name, picture in pictures:
        total.update(name.encode() + picture.tobytes())
    for task in tasks:
        for item in task:
            line = (item.item_id, item.image_id, item.question, item.answer)
            total.update("\t".join(line).encode() + b"\n")
    return total.hexdigest()


def quotas(task: str) -> Quotas:
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
    return evenly(kinds[task])


def evenly(kinds: Mapping[str, Sequence[str]]) -> Quotas:
    """Of 300 questions as many of each kind, in each the answers equally often (up to one)."""
    quota: Quotas = {}
    for kind, answers in kinds.items():
        share, rest = divmod(QUESTIONS // len(kinds), len(answers))
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
    def asked(number: int) -> Iterator[Sequence[questions.Question]]:
        objects = _scene(number).objects
        for name, task in zip(questions.TASKS, TASKS, strict=True):
            crowded = len(objects) > CROWDED.get(task, len(objects))
            yield [] if crowded else questions.possible(name, objects)

    return fill({task: quotas(task) for task in TASKS}, asked, stratum, _random)


def fill(
    left: dict[str, Quotas],
    asked: Callable[[int], Iterable[Sequence[Asked]]],
    stratum: Callable[[str, str], tuple[str, str]],
    random: Callable[[int, int], np.random.RandomState],
) -> dict[str, tuple[Item, ...]]:
    """Goes through pictures until all quotas are met, one question of each task a picture.

    `asked` gives every question about the picture of a number, task by task.
    """
    found: dict[str, list[Item]] = {task: [] for task in left}
    number = 0
    while any(any(quota.values()) for quota in left.values()):
        for i, (task, possible) in enumerate(zip(left, asked(number), strict=True)):
            kinds = [stratum(question.text, question.answer) for question in possible]
            place = _scarcest(random(number, i), [left[task].get(kind, 0) for kind in kinds])
            if place is not None:
                left[task][kinds[place]] -= 1
                item_id = f"{task}-{len(found[task]):03d}"
                question = possible[place]
                found[task].append(Item(item_id, f"{number:04d}", question.text, question.answer))
        number += 1
    return {task: tuple(items) for task, items in found.items()}


def _scarcest(random: np.random.RandomState, wants: Sequence[int]) -> int | None:
    """The place of an answer that is wanted most often still: rare ones are never passed over."""
    if not any(wants):
        return None
    best = [place for place, wanted in enumerate(wants) if wanted == max(wants)]
    return best[random.randint(len(best))]
