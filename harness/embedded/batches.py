"""Training batches: scenes with their labels and multi-turn token sequences, made by a process.

A batch depends on nothing but its key, so training is the same however many batches were made
ahead, and resumes anywhere. This module imports no torch: the making process starts quickly.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from harness.embedded import questions, scenes
from harness.embedded.questions import ASSISTANT, END, LISTING, PAD, TASKS, USER, Question

TRAINING_KEY, VALIDATION_KEY, BENCHMARK_KEY = 1, 2, 3
"""First words of the seeds of three streams of images that never meet."""
IGNORED = -100
LISTED = len(TASKS)
"""Stands for the listing where a task's index is expected."""
AHEAD = 4


@dataclass(frozen=True)
class Recipe:
    """What one batch holds: images of grid x grid patches, objects and questions in each."""

    images: int
    grid: int
    fewest: int
    most: int
    turns: int
    with_listing: bool = True


@dataclass(frozen=True)
class Batch:
    """B images with what is to be learnt of them.

    pixels uint8 [B, side, side, 3]; labels int8 [B, grid * grid, 4] (see scenes.Scene);
    corners int64 [B, 2], each window's first patch (row, column) of the whole image; presence
    float32 [B, 40], whether each (shape, colour) pair and each digit occurs; ids int64 [B, L], the
    text after the image tokens, padded on the right; targets int64 [B, L], the token that follows
    each, IGNORED but for answers; tasks int8 [B, L], the task of each answer word, LISTED in a
    listing, -1 elsewhere.
    """

    pixels: np.ndarray
    labels: np.ndarray
    corners: np.ndarray
    presence: np.ndarray
    ids: np.ndarray
    targets: np.ndarray
    tasks: np.ndarray


def training_batch(key: tuple[int, ...], recipe: Recipe) -> Batch:
    """The batch of a key: scenes nowhere else seen, each with a conversation about it."""
    random = np.random.RandomState(key)
    drawn, corners, turns = [], [], []
    for _ in range(recipe.images):
        scene = scenes.draw(random, recipe.grid, recipe.fewest, recipe.most)
        row, column = (int(v) for v in random.randint(0, scenes.GRID - recipe.grid + 1, 2))
        drawn.append(scene)
        corners.append((row, column))
        asked = questions.sample(random, scene.objects, recipe.turns, (row, column))
        turns.append(_conversation(asked, scene, recipe.with_listing))
    return _collate(drawn, corners, turns)


def validation_batches(each: int, size: int) -> Iterator[Batch]:
    """Whole held-out images with one question each, `each` a task, `size` images a batch.

    These are neither training images nor the benchmark's.
    """
    for task_number, task in enumerate(TASKS):
        random = np.random.RandomState((VALIDATION_KEY, task_number))
        items: list[tuple[scenes.Scene, Question]] = []
        while len(items) < each:
            scene = scenes.draw(random, scenes.GRID, 3, 8)
            asked = questions.possible(task, scene.objects)
            if asked:
                items.append((scene, questions.pick(random, asked)))
        for start in range(0, each, size):
            part = items[start : start + size]
            turns = [_conversation([question], scene, False) for scene, question in part]
            yield _collate([scene for scene, _ in part], [(0, 0)] * len(part), turns)


def stream(key: tuple[int, ...], first: int, last: int, recipe: Recipe) -> Iterator[Batch]:
    """The batches of steps `first` to `last` - 1 of a phase, made ahead by another process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        waiting: deque = deque()
        for step in range(first, last + AHEAD):
            if step < last:
                waiting.append(pool.apply_async(training_batch, ((*key, step), recipe)))
            if step >= first + AHEAD:
                yield waiting.popleft().get()


def _conversation(
    asked: list[Question], scene: scenes.Scene, with_listing: bool
) -> tuple[list[int], list[int], list[int]]:
    """Token ids, targets and tasks of one image's turns; the listing comes last, lest it tells."""
    turns = [(q.text, q.answer, TASKS.index(q.task)) for q in asked]
    if with_listing:
        turns.append((LISTING, questions.listing(scene.objects), LISTED))
    ids: list[int] = []
    targets: list[int] = []
    tasks: list[int] = []
    for text, answer, task in turns:
        prompt = [USER, *questions.word_ids(text), ASSISTANT]
        reply = questions.word_ids(answer)
        ids += [*prompt, *reply, END]
        targets += [IGNORED] * (len(prompt) - 1) + [*reply, END, IGNORED]
        tasks += [-1] * (len(prompt) - 1) + [task] * len(reply) + [-1, -1]
    # the first "USER:" comes before the image and is not part of the text after it
    return ids[1:], targets[1:], tasks[1:]


def _collate(
    drawn: list[scenes.Scene],
    corners: list[tuple[int, int]],
    turns: list[tuple[list[int], list[int], list[int]]],
) -> Batch:
    presence = np.zeros((len(drawn), 40), np.float32)
    for row, scene in zip(presence, drawn, strict=True):
        for item in scene.objects:
            row[item.shape * len(scenes.COLOURS) + item.colour] = 1
            if item.digit is not None:
                row[30 + item.digit] = 1
    pick: list[Callable] = [lambda t: t[0], lambda t: t[1], lambda t: t[2]]
    ids, targets, tasks = (
        _padded([part(t) for t in turns], fill)
        for part, fill in zip(pick, (PAD, IGNORED, -1), strict=True)
    )
    return Batch(
        pixels=np.stack([scene.pixels for scene in drawn]),
        labels=np.stack([scene.labels for scene in drawn]),
        corners=np.array(corners, np.int64),
        presence=presence,
        ids=ids,
        targets=targets,
        tasks=tasks.astype(np.int8),
    )


def _padded(rows: list[list[int]], fill: int) -> np.ndarray:
    out = np.full((len(rows), max(map(len, rows))), fill, np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return out
