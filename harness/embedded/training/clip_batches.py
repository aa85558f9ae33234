"""Training batches of clips: frames with what their tokens show, and many questions about each.

As in `batches`, a batch depends on nothing but its key, and this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from harness.embedded import scenes
from harness.embedded.questions import ASSISTANT, CELLS, END, PAD
from harness.embedded.training.batches import IGNORED, padded
from harness.embedded.video import clips
from harness.embedded.video.clips import FRAMES, Clip, Track
from harness.embedded.video.questions import TASKS, Question, possible, word_ids

TOKENS = 8
"""Along one side of a frame."""
CELL = clips.SIDE // TOKENS
SHOWN_PIXELS = CELL * CELL * 15 // 100
"""A token bears an object's labels when at least so many of its pixels show it."""
LOOKS = 4
"""A turn is to look at its object at any time, first, last, and when it is asked of."""


@dataclass(frozen=True)
class ClipRecipe:
    """What one batch holds: clips with `turns` questions each, and how many places of a frame
    reach the decoder (one of `shown`, drawn for each batch), those that objects pass first.

    One of `frames`, drawn for each batch, is how many frames a clip has, evenly chosen.
    """

    clips: int
    fewest: int
    most: int
    turns: int
    shown: tuple[int, ...] = (TOKENS * TOKENS,)
    frames: tuple[int, ...] = (FRAMES,)


@dataclass(frozen=True)
class ClipBatch:
    """B clips of F frames with what is to be learnt of them.

    pixels uint8 [B, F, side, side, 3]; shown int64 [B, V], the tokens of a clip that reach the
    decoder, in order; labels int8 [B, F * 64, 3], each token's track, shape and colour, plus one.
    The rest is int64 [B, L] as in `batches.Batch`, and looks int64 [B, L, 4, 2]: at tokens of which
    track plus one, and of which frame, -1 for any; 0 for nothing.
    """

    pixels: np.ndarray
    shown: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    targets: np.ndarray
    tasks: np.ndarray
    turns: np.ndarray
    places: np.ndarray
    looks: np.ndarray


def training_batch(key: tuple[int, ...], recipe: ClipRecipe) -> ClipBatch:
    """The batch of a key: clips nowhere else seen, each with questions about it."""
    random = np.random.RandomState(key)
    drawn: list[Clip] = []
    asked: list[list[Question]] = []
    while len(drawn) < recipe.clips:
        clip = clips.draw(random, recipe.fewest, recipe.most)
        drawn.append(clip)
        asked.append(_sample(random, clip.tracks, recipe.turns))
    number = recipe.frames[random.randint(len(recipe.frames))]
    shown = recipe.shown[random.randint(len(recipe.shown))]
    return _collate(random, drawn, asked, number, shown)


def validation_batches(each: int, size: int) -> Iterator[ClipBatch]:
    """Held-out clips with one question each: `each` a task, `size` clips a batch."""
    for task_number, task in enumerate(TASKS):
        random = np.random.RandomState((scenes.VALIDATION_KEY, len(TASKS), task_number))
        items: list[tuple[Clip, list[Question]]] = []
        while len(items) < each:
            clip = clips.draw(random)
            questions = possible(task, clip.tracks)
            if questions:
                items.append((clip, [_pick(random, questions)]))
        for start in range(0, each, size):
            drawn, asked = zip(*items[start : start + size], strict=True)
            yield _collate(random, list(drawn), list(asked), FRAMES, TOKENS * TOKENS)


def _sample(
    random: np.random.RandomState, tracks: tuple[Track, ...], number: int
) -> list[Question]:
    """Up to `number` different questions: a task by chance, then an answer, then a question."""
    left = {task: possible(task, tracks) for task in TASKS}
    chosen: list[Question] = []
    while len(chosen) < number and any(left.values()):
        tasks = [task for task in TASKS if left[task]]
        task = tasks[random.randint(len(tasks))]
        question = _pick(random, left[task])
        left[task].remove(question)
        chosen.append(question)
    return chosen


def _pick(random: np.random.RandomState, questions: list[Question]) -> Question:
    answers = sorted({q.answer for q in questions})
    answer = answers[random.randint(len(answers))]
    same = [q for q in questions if q.answer == answer]
    return same[random.randint(len(same))]


@dataclass
class _Text:
    """The turns of one clip, token by token; the fields are rows of those of ClipBatch."""

    ids: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    looks: list[list[list[int]]] = field(default_factory=list)

    def add(self, number: int, question: Question, looks: list[list[int]]) -> None:
        """One more turn, which looks once it is asked whole: at its "?" and "ASSISTANT:"."""
        prompt = [*word_ids(question.text), ASSISTANT]
        reply = word_ids(question.answer)
        self.ids += [*prompt, *reply, END]
        self.targets += [IGNORED] * (len(prompt) - 1) + [*reply, END, IGNORED]
        task = TASKS.index(question.task)
        self.tasks += [-1] * (len(prompt) - 1) + [task] * len(reply) + [-1, -1]
        length = len(prompt) + len(reply) + 1
        self.turns += [number] * length
        self.places += range(length)
        nothing = [[0, -1]] * LOOKS
        self.looks += [nothing] * (len(prompt) - 2) + [looks] * 2 + [nothing] * (len(reply) + 1)


def _looks(question: Question, tracks: tuple[Track, ...], frames: list[int]) -> list[list[int]]:
    """[4, 2]; frames by their place among those that are shown."""
    if question.track < 0:
        return [[0, -1]] * LOOKS
    number = question.track + 1
    seen = [i for i, frame in enumerate(frames) if tracks[question.track].states[frame]]
    if not seen:
        return [[0, -1]] * LOOKS
    ordered = question.task == "order"
    when = -1 if question.frame < 0 else seen[0] if question.frame == frames[0] else seen[-1]
    asked = [number, seen[0] if ordered else when]
    if ordered:
        return [[0, -1], [number, seen[0]], [0, -1], asked]
    return [[number, -1], [number, seen[0]], [number, seen[-1]], asked]


def _collate(
    random: np.random.RandomState,
    drawn: list[Clip],
    asked: list[list[Question]],
    number: int,
    places: int,
) -> ClipBatch:
    frames = np.linspace(0, FRAMES - 1, number, dtype=int).tolist()
    labels = np.stack([_labels(clip, frames) for clip in drawn])
    shown = np.stack([_shown(random, each, number, places) for each in labels])
    texts = []
    for clip, questions in zip(drawn, asked, strict=True):
        text = _Text()
        for turn, question in enumerate(questions):
            text.add(turn, question, _looks(question, clip.tracks, frames))
        texts.append(text)
    length = max(len(text.ids) for text in texts)
    looks = np.zeros((len(texts), length, LOOKS, 2), np.int64)
    for row, text in zip(looks, texts, strict=True):
        row[: len(text.looks)] = text.looks
    return ClipBatch(
        pixels=np.stack([clip.frames[frames] for clip in drawn]),
        shown=shown,
        labels=labels,
        ids=padded([text.ids for text in texts], PAD),
        targets=padded([text.targets for text in texts], IGNORED),
        tasks=padded([text.tasks for text in texts], -1),
        turns=padded([text.turns for text in texts], -1),
        places=padded([text.places for text in texts], 0),
        looks=looks,
    )


def _labels(clip: Clip, frames: list[int]) -> np.ndarray:
    """int8 [F * 64, 3]: track, shape and colour, plus one, of what a token shows most of."""
    owners = clip.owners[frames].reshape(len(frames), TOKENS, CELL, TOKENS, CELL)
    labels = np.zeros((len(frames), TOKENS, TOKENS, 3), np.int8)
    most = np.full(labels.shape[:-1], SHOWN_PIXELS - 1)
    for number, track in enumerate(clip.tracks, 1):
        pixels = (owners == number).sum((2, 4))
        for i, frame in enumerate(frames):
            state = track.states[frame]
            if state is not None:
                own = pixels[i] > most[i]
                labels[i][own] = (number, state.shape + 1, state.colour + 1)
        most = np.maximum(most, pixels)
    return labels.reshape(-1, 3)


def _shown(random: np.random.RandomState, labels: np.ndarray, frames: int, n: int) -> np.ndarray:
    """int64 [F * n]: the same places of all frames, those that any object passes first."""
    passed = np.any((labels[:, 0] > 0).reshape(frames, -1), axis=0)
    places = np.sort(np.argsort(~passed + random.random_sample(len(passed)))[:n])
    return (np.arange(frames)[:, None] * TOKENS * TOKENS + places).reshape(-1)


def ninths() -> np.ndarray:
    """int64 [64], the ninth of the frame in which the centre of a token's cell lies."""
    line = (2 * np.arange(TOKENS) + 1) * len(CELLS) // (2 * TOKENS)
    return (line[:, None] * len(CELLS) + line).reshape(-1)
