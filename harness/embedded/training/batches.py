"""Training batches: scenes with their labels and multi-turn token sequences, made by a process.

A batch depends on nothing but its key, so training is the same however many batches were made
ahead, and resumes anywhere. This module imports no torch: the making process starts quickly.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from harness.embedded import questions, scenes
from harness.embedded.questions import ASSISTANT, END, LISTING, PAD, TASKS, Question

IGNORED = -100
LISTED = len(TASKS)
"""Stands for the listing where a task's index is expected."""
AHEAD = 4


@dataclass(frozen=True)
class Recipe:
    """What one batch holds: images of grid x grid patches, objects and questions in each.

    One of `shown`, drawn for each batch, is how many patches of an image reach the decoder: those
    of objects and background drawn by chance. Most of a scene is background, so this trains
    faster, and a decoder does not learn to count in shares of the whole. Without `shown` all do.
    `by_shape` is `questions.sample`'s. The first `blind` turns are asked without the image, so
    that a model whose image is taken away guesses among a task's answers.
    """

    images: int
    grid: int
    fewest: int
    most: int
    turns: int
    shown: tuple[int, ...] = ()
    by_shape: float = 0.0
    blind: int = 0


@dataclass(frozen=True)
class Batch:
    """B images with what is to be learnt of them.

    pixels uint8 [B, side, side, 3]; labels int8 [B, grid * grid, 4] (see scenes.Scene);
    corners int64 [B, 2], each window's first patch (row, column) of the whole image; presence
    float32 [B, 40], whether each (shape, colour) pair and each digit occurs; shown int64 [B, V],
    the patches that reach the decoder, in order. The rest is int64 [B, L]: ids, all turns after
    the image tokens, padded on the right; targets, the token that follows each, IGNORED but for
    answers; tasks, the task of each answer word, LISTED in a listing, -1 elsewhere; turns, the
    number of each token's turn, -1 for padding; places, where in its turn it stands; sighted, 1
    where the turn has the image, else 0; shapes and colours, from a question's last word that names
    what it asks about to its end, that shape and colour, plus one as in the labels, 0 for any, and
    elsewhere IGNORED.
    """

    pixels: np.ndarray
    labels: np.ndarray
    corners: np.ndarray
    presence: np.ndarray
    shown: np.ndarray
    ids: np.ndarray
    targets: np.ndarray
    tasks: np.ndarray
    turns: np.ndarray
    places: np.ndarray
    sighted: np.ndarray
    shapes: np.ndarray
    colours: np.ndarray


def split(batch: Any, parts: int) -> list[Any]:
    """A batch of images or clips in `parts` batches of as many each, but for a rest of one."""
    halves = [np.array_split(getattr(batch, part.name), parts) for part in fields(batch)]
    return [type(batch)(*arrays) for arrays in zip(*halves, strict=True)]


def training_batch(key: tuple[int, ...], recipe: Recipe) -> Batch:
    """The batch of a key: scenes nowhere else seen, each with a conversation about it."""
    random = np.random.RandomState(key)
    drawn, corners, turns = [], [], []
    for _ in range(recipe.images):
        scene = scenes.draw(random, recipe.grid, recipe.fewest, recipe.most)
        row, column = (int(v) for v in random.randint(0, scenes.GRID - recipe.grid + 1, 2))
        drawn.append(scene)
        corners.append((row, column))
        corner = (row, column)
        asked = questions.sample(random, scene.objects, recipe.turns, corner, recipe.by_shape)
        turns.append(_turns(asked, scene, True, recipe.blind))
    choices = recipe.shown or (recipe.grid**2,)
    number = choices[random.randint(len(choices))]
    shown = np.stack([_shown(random, scene.labels, number) for scene in drawn])
    return _collate(drawn, corners, turns, shown)


def _shown(random: np.random.RandomState, labels: np.ndarray, number: int) -> np.ndarray:
    """int64 [number], the patches to show in order; those of objects come before any background."""
    empty = labels[:, 0] == 0
    return np.sort(np.argsort(empty + random.random_sample(len(labels)))[:number])


WHOLE = Recipe(0, scenes.GRID, 3, 8, 0)
"""Scenes as the benchmark has them."""


def validation_batches(each: int, size: int, kind: Recipe = WHOLE) -> Iterator[Batch]:
    """Held-out scenes of the recipe's grid and numbers of objects, with one question each: `each`
    a task, `size` scenes a batch.

    These are neither training images nor the benchmark's.
    """
    for task_number, task in enumerate(TASKS):
        random = np.random.RandomState((scenes.VALIDATION_KEY, task_number))
        items: list[tuple[scenes.Scene, tuple[int, int], Question]] = []
        while len(items) < each:
            scene = scenes.draw(random, kind.grid, max(kind.fewest, 1), kind.most)
            row, column = (int(v) for v in random.randint(0, scenes.GRID - kind.grid + 1, 2))
            asked = questions.possible(task, scene.objects, (row, column))
            if asked:
                items.append((scene, (row, column), questions.pick(random, asked)))
        for start in range(0, each, size):
            drawn, corners, asked_of = zip(*items[start : start + size], strict=True)
            turns = [_turns([q], s, False) for s, q in zip(drawn, asked_of, strict=True)]
            everything = np.tile(np.arange(kind.grid**2), (len(drawn), 1))
            yield _collate(list(drawn), list(corners), turns, everything)


def stream(
    make: Callable[[tuple[int, ...], Any], Any],
    key: tuple[int, ...],
    first: int,
    last: int,
    recipe: Any,
) -> Iterator[Any]:
    """What `make` gives for steps `first` to `last` - 1 of a phase, ahead in another process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        waiting: deque = deque()
        for step in range(first, last + AHEAD):
            if step < last:
                waiting.append(pool.apply_async(make, ((*key, step), recipe)))
            if step >= first + AHEAD:
                yield waiting.popleft().get()


@dataclass
class _Text:
    """The turns of one image, token by token; the fields are rows of those of Batch."""

    ids: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    sighted: list[int] = field(default_factory=list)
    shapes: list[int] = field(default_factory=list)
    colours: list[int] = field(default_factory=list)

    def add(self, text: str, answer: str, task: int, sighted: bool = True) -> None:
        """One more turn. The "USER:" of all of them stands once, before the image."""
        prompt = [*questions.word_ids(text), ASSISTANT]
        reply = questions.word_ids(answer)
        length = len(prompt) + len(reply) + 1
        self.turns += [max(self.turns, default=-1) + 1] * length
        self.places += range(length)
        self.sighted += [int(sighted)] * length
        asked = questions.named(text)
        known = questions.named_at(text) if any(asked) else len(prompt)
        for row, number in zip((self.shapes, self.colours), asked, strict=True):
            row += [IGNORED] * known + [number] * (len(prompt) - known)
            row += [IGNORED] * (len(reply) + 1)
        self.ids += [*prompt, *reply, END]
        self.targets += [IGNORED] * (len(prompt) - 1) + [*reply, END, IGNORED]
        self.tasks += [-1] * (len(prompt) - 1) + [task] * len(reply) + [-1, -1]


def _turns(asked: list[Question], scene: scenes.Scene, with_listing: bool, blind: int = 0) -> _Text:
    text = _Text()
    for number, question in enumerate(asked):
        task = TASKS.index(question.task)
        text.add(question.text, question.answer, task, sighted=number >= blind)
    if with_listing:
        text.add(LISTING, questions.listing(scene.objects), LISTED)
    return text


def _collate(
    drawn: list[scenes.Scene],
    corners: list[tuple[int, int]],
    texts: list[_Text],
    shown: np.ndarray,
) -> Batch:
    presence = np.zeros((len(drawn), 40), np.float32)
    for row, scene in zip(presence, drawn, strict=True):
        for item in scene.objects:
            row[item.shape * len(scenes.COLOURS) + item.colour] = 1
            if item.digit is not None:
                row[30 + item.digit] = 1
    return Batch(
        pixels=np.stack([scene.pixels for scene in drawn]),
        labels=np.stack([scene.labels for scene in drawn]),
        corners=np.array(corners, np.int64),
        presence=presence,
        shown=shown,
        ids=padded([text.ids for text in texts], PAD),
        targets=padded([text.targets for text in texts], IGNORED),
        tasks=padded([text.tasks for text in texts], -1),
        turns=padded([text.turns for text in texts], -1),
        places=padded([text.places for text in texts], 0),
        sighted=padded([text.sighted for text in texts], 1),
        shapes=padded([text.shapes for text in texts], IGNORED),
        colours=padded([text.colours for text in texts], IGNORED),
    )


def padded(rows: list[list[int]], fill: int) -> np.ndarray:
    out = np.full((len(rows), max(map(len, rows))), fill, np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return out
