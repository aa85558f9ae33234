"""Questions about a clip that no single frame answers, and the words both are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.embedded import questions
from harness.embedded.scenes import COLOURS, SHAPES, Object
from harness.embedded.video.clips import APPEARING, CHANGING, FRAMES, MOVING, SIDE, WAYS, Track

TASKS = ("direction", "order", "change", "place", "events")
MOST_COUNTED = 3
LINE_MARGIN = 3
"""A place is asked of objects whose centre is at least this many pixels from a cell's edge."""
VIDEO_MARK = "<video>"


@dataclass(frozen=True)
class Question:
    """A question with its one right answer, a single word.

    `track` is the place of the object that it is about, -1 for several, `frame` the one that is
    asked about, -1 for several: they serve training.
    """

    task: str
    text: str
    answer: str
    track: int = -1
    frame: int = -1


def possible(task: str, tracks: Sequence[Track]) -> list[Question]:
    """Every question of a task that the clip answers without doubt."""
    asked = {
        "direction": _direction,
        "order": _order,
        "change": _change,
        "place": _place,
        "events": _events,
    }
    if task not in asked:
        raise ValueError(f"no task is called {task!r}; there are {', '.join(TASKS)}")
    return asked[task](tracks)


def _name(item: Object) -> str:
    return f"{COLOURS[item.colour]} {SHAPES[item.shape]}"


def _direction(tracks: Sequence[Track]) -> list[Question]:
    return [
        Question("direction", f"which way does the {_name(t.first)} move ?", t.way, number)
        for number, t in enumerate(tracks)
        if t.kind == MOVING
    ]


def _order(tracks: Sequence[Track]) -> list[Question]:
    """Of those that appear, which comes first or last; its shape only where others have another."""
    appearing = sorted((t.onset, n) for n, t in enumerate(tracks) if t.kind == APPEARING)
    if len(appearing) < 2:
        return []
    shapes = {tracks[number].first.shape for _, number in appearing}
    asked = []
    for word, (onset, number) in (("first", appearing[0]), ("last", appearing[-1])):
        item = tracks[number].first
        about = (number, onset)
        asked.append(
            Question("order", f"what color appears {word} ?", COLOURS[item.colour], *about)
        )
        if len(shapes) > 1:
            asked.append(
                Question("order", f"what shape appears {word} ?", SHAPES[item.shape], *about)
            )
    return asked


def _change(tracks: Sequence[Track]) -> list[Question]:
    return [
        Question(
            "change",
            f"what color is the {SHAPES[t.first.shape]} at the {word} ?",
            COLOURS[item.colour],
            number,
            frame,
        )
        for number, t in enumerate(tracks)
        if t.kind == CHANGING
        for word, item, frame in (("start", t.first, 0), ("end", t.last, FRAMES - 1))
    ]


def _place(tracks: Sequence[Track]) -> list[Question]:
    """Of those that are elsewhere at the end."""
    asked = []
    for number, t in enumerate(tracks):
        cells = [_cell(t.first), _cell(t.last)]
        if t.kind != MOVING or cells[0] == cells[1]:
            continue
        for word, cell, frame in (("start", cells[0], 0), ("end", cells[1], FRAMES - 1)):
            if cell is not None:
                text = f"where is the {_name(t.first)} at the {word} ?"
                asked.append(Question("place", text, cell, number, frame))
    return asked


def _cell(item: Object) -> str | None:
    """The ninth of the frame that holds the object's centre; None near a dividing line."""
    lines = (2 * SIDE // 3, 4 * SIDE // 3)
    x, y = item.centre
    if any(abs(c - line) < 2 * LINE_MARGIN for c in (x, y) for line in lines):
        return None
    row, column = (sum(c > line for line in lines) for c in (y, x))
    return questions.CELLS[row][column]


def _events(tracks: Sequence[Track]) -> list[Question]:
    asked = []
    for word, kind in (("appear", APPEARING), ("move", MOVING)):
        number = sum(t.kind == kind for t in tracks)
        if number <= MOST_COUNTED:
            asked.append(Question("events", f"how many objects {word} ?", str(number)))
    return asked


def _new_words() -> tuple[str, ...]:
    frames = "which way does move appears first last appear at start end"
    return tuple(w for w in sorted({*frames.split(), *WAYS}) if w not in questions.WORDS)


WORDS = (*questions.WORDS, VIDEO_MARK, *_new_words())
"""The tokenizer's words: the image model's, then those that time needs."""
VIDEO = WORDS.index(VIDEO_MARK)


def word_ids(text: str) -> list[int]:
    """Token ids of a text whose words are parted by spaces."""
    return [WORDS.index(word) for word in text.split()]
