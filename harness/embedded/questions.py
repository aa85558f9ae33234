"""Questions about a scene, their answers, and the words both are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.embedded.scenes import COLOURS, PATCH, SHAPES, SIDE, Object

TASKS = ("existence", "attribute", "count", "position", "digits")
CELLS = (
    ("top-left", "top", "top-right"),
    ("left", "middle", "right"),
    ("bottom-left", "bottom", "bottom-right"),
)
MOST_COUNTED = 4
EVENED = ("existence", "count")
LISTING = "list all"
"""The training turn whose answer names every object; it is never asked in the benchmark."""
PLURALS = tuple(f"{shape}es" if shape.endswith("s") else f"{shape}s" for shape in SHAPES)
LINE_MARGIN = 4
"""Position is asked of objects whose centre is at least this many pixels from a cell's edge."""

SPECIAL_WORDS = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:")
PAD, BEGIN, END, UNKNOWN, IMAGE, USER, ASSISTANT = range(len(SPECIAL_WORDS))


@dataclass(frozen=True)
class Question:
    """A question with its one right answer, a single word."""

    task: str
    text: str
    answer: str


def possible(
    task: str, objects: Sequence[Object], corner: tuple[int, int] = (0, 0)
) -> list[Question]:
    """Every question of a task that the scene answers without doubt.

    corner: the patch (row, column) of the whole image at which a window's scene begins.
    """
    if task == "existence":
        return _existence(objects)
    if task == "attribute":
        return _attribute(objects)
    if task == "count":
        return _count(objects)
    if task == "position":
        return _position(objects, corner)
    if task == "digits":
        return _digits(objects)
    raise ValueError(f"no task is called {task!r}; there are {', '.join(TASKS)}")


def sample(
    random: np.random.RandomState,
    objects: Sequence[Object],
    number: int,
    corner: tuple[int, int] = (0, 0),
    by_shape: float = 0.0,
) -> list[Question]:
    """Up to `number` different questions: a task by chance, then an answer, then a question.

    Existence and count end when all that is left has one answer. Else most of what small scenes
    are asked is answered by "no" and "0", and a model is content with saying so. With a chance of
    `by_shape` a question is one that colours alone do not answer, where its task has any left.
    """
    left = {task: possible(task, objects, corner) for task in TASKS}
    chosen: list[Question] = []
    while len(chosen) < number:
        answers = {task: {q.answer for q in left[task]} for task in TASKS}
        tasks = [task for task in TASKS if len(answers[task]) > (task in EVENED)]
        if not tasks:
            break
        task = tasks[random.randint(len(tasks))]
        hard = [q for q in left[task] if needs_shape(q, objects)] if by_shape else []
        question = pick(random, hard if hard and random.random_sample() < by_shape else left[task])
        left[task].remove(question)
        chosen.append(question)
    return chosen


def named(text: str) -> tuple[int, int]:
    """Places in SHAPES and COLOURS plus one of what a question names, 0 where it names none."""
    words = text.split()
    shapes = [
        i for i, pair in enumerate(zip(SHAPES, PLURALS, strict=True), 1) if {*pair} & {*words}
    ]
    colours = [i for i, colour in enumerate(COLOURS, 1) if colour in words]
    return (shapes or [0])[0], (colours or [0])[0]


def named_at(text: str) -> int:
    """The place of the last word of a question that names a shape or a colour."""
    naming = {*SHAPES, *PLURALS, *COLOURS}
    return max(i for i, word in enumerate(text.split()) if word in naming)


def needs_shape(question: Question, objects: Sequence[Object]) -> bool:
    """Whether what is asked about cannot be found by its colour alone.

    A model learns to find objects by colour long before it finds them by shape.
    """
    shape, colour = named(question.text)
    same = sum(item.colour == colour - 1 for item in objects)
    return not colour or (same > 1 and bool(shape))


def pick(random: np.random.RandomState, questions: Sequence[Question]) -> Question:
    """One question, all answers alike likely; of counts the high ones, which few scenes offer."""
    answers = sorted({q.answer for q in questions})
    if questions[0].task == "count":
        answers = [a for a in answers for _ in range(int(a) + 1)]
    answer = answers[random.randint(len(answers))]
    same = [q for q in questions if q.answer == answer]
    return same[random.randint(len(same))]


def listing(objects: Sequence[Object]) -> str:
    """Every object in reading order: "red circle 3 , blue square none ,"."""
    ordered = sorted(objects, key=lambda o: (o.centre[1] // (4 * PATCH), o.centre[0]))
    return " ".join(f"{_name(o)} {'none' if o.digit is None else o.digit} ," for o in ordered)


def _name(item: Object) -> str:
    return f"{COLOURS[item.colour]} {SHAPES[item.shape]}"


def _unique(objects: Sequence[Object]) -> list[Object]:
    names = [_name(o) for o in objects]
    return [o for o, name in zip(objects, names, strict=True) if names.count(name) == 1]


def _existence(objects: Sequence[Object]) -> list[Question]:
    """Present pairs, and absent ones that share their colour or their shape with an object."""
    pairs = {(o.colour, o.shape) for o in objects}
    colours, shapes = {c for c, _ in pairs}, {s for _, s in pairs}
    return [
        Question(
            "existence",
            f"is there a {COLOURS[colour]} {SHAPES[shape]} ?".replace("a orange", "an orange"),
            "yes" if (colour, shape) in pairs else "no",
        )
        for colour in range(len(COLOURS))
        for shape in range(len(SHAPES))
        if colour in colours or shape in shapes
    ]


def _attribute(objects: Sequence[Object]) -> list[Question]:
    """The colour of the only object of a shape, the shape of the only object of a colour."""
    shapes, colours = [o.shape for o in objects], [o.colour for o in objects]
    asked = []
    for item in objects:
        shape, colour = SHAPES[item.shape], COLOURS[item.colour]
        if shapes.count(item.shape) == 1:
            asked.append(Question("attribute", f"what color is the {shape} ?", colour))
        if colours.count(item.colour) == 1:
            asked.append(Question("attribute", f"what shape is the {colour} object ?", shape))
    return asked


def _count(objects: Sequence[Object]) -> list[Question]:
    shapes, colours = [o.shape for o in objects], [o.colour for o in objects]
    numbers = [(f"how many {word} ?", shapes.count(i)) for i, word in enumerate(PLURALS)]
    numbers += [(f"how many {c} objects ?", colours.count(i)) for i, c in enumerate(COLOURS)]
    return [Question("count", text, str(n)) for text, n in numbers if n <= MOST_COUNTED]


def _position(objects: Sequence[Object], corner: tuple[int, int]) -> list[Question]:
    asked = []
    for item in _unique(objects):
        cell = _cell(item, corner)
        if cell is not None:
            asked.append(Question("position", f"where is the {_name(item)} ?", cell))
    return asked


def _cell(item: Object, corner: tuple[int, int]) -> str | None:
    """The ninth of the whole image that holds the object's centre; None near a dividing line."""
    third, lines = 2 * SIDE // 3, (2 * SIDE // 3, 4 * SIDE // 3)
    x, y = item.centre[0] + 2 * PATCH * corner[1], item.centre[1] + 2 * PATCH * corner[0]
    if any(abs(c - line) < 2 * LINE_MARGIN for c in (x, y) for line in lines):
        return None
    row, column = (min(max(c // third, 0), 2) for c in (y, x))
    return CELLS[row][column]


def _digits(objects: Sequence[Object]) -> list[Question]:
    return [
        Question("digits", f"what digit is on the {_name(item)} ?", str(item.digit))
        for item in _unique(objects)
        if item.digit is not None
    ]


def _vocabulary() -> tuple[str, ...]:
    frames = "is there a an ? what color is the shape object how many objects where digit on yes no"
    words = {*frames.split(), *LISTING.split(), "none", ",", *map(str, range(10))}
    words |= {*SHAPES, *PLURALS, *COLOURS, *(cell for row in CELLS for cell in row)}
    return SPECIAL_WORDS + tuple(sorted(words))


WORDS = _vocabulary()
"""The tokenizer's words; a token's id is its place here."""


def word_ids(text: str) -> list[int]:
    """Token ids of a text whose words are parted by spaces."""
    return [WORDS.index(word) for word in text.split()]
