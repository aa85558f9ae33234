"""Clips of coloured shapes that move, appear and change colour, drawn from a seed with integers
alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.embedded.scenes import COLOURS, PATCH, SHAPES, Object, background, close, paint, tint

FRAMES = 8
GRID = 16
"""Patches along one side of a frame."""
SIDE = PATCH * GRID
"""Side of a frame, in pixels."""
SMALLEST, LARGEST = 14, 24
"""Sides of an object's box, in pixels."""
SLOWEST, FASTEST = 5, 9
"""Pixels from one frame to the next."""
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
STILL, MOVING, APPEARING, CHANGING = KINDS = ("still", "moving", "appearing", "changing")
APART = 2
"""So many frames lie between two that appear."""


@dataclass(frozen=True)
class Track:
    """One object through a clip, an entry a frame: `kind` is one of KINDS.

    `way` is where it moves; before `onset` an object that appears is not there.
    """

    kind: str
    states: tuple[Object | None, ...]
    way: str = ""
    onset: int = 0

    @property
    def first(self) -> Object:
        """As it is when it is first seen."""
        return next(state for state in self.states if state)

    @property
    def last(self) -> Object:
        """As it is at the end."""
        return next(state for state in reversed(self.states) if state)


@dataclass(frozen=True)
class Clip:
    """What was drawn.

    frames: uint8 [8, 112, 112, 3]; owners: int8 [8, 112, 112], the number of the track that a
    pixel shows, from 1, or 0.
    """

    frames: np.ndarray
    tracks: tuple[Track, ...]
    owners: np.ndarray


def draw(random: np.random.RandomState, fewest: int = 3, most: int = 5) -> Clip:
    """`fewest` to `most` objects, or fewer where there is no room; the first one always moves.

    No two have a colour in common, and none crosses another's way.
    """
    tracks = tracked(random, fewest, most)
    tints = [tint(random) for _ in tracks]
    canvas = np.repeat(background(random, SIDE)[None], FRAMES, 0)
    owners = np.zeros((FRAMES, SIDE, SIDE), np.int8)
    for number, (track, tinted) in enumerate(zip(tracks, tints, strict=True), 1):
        for frame, state in enumerate(track.states):
            if state is not None:
                paint(canvas[frame], owners[frame], state, number, tinted)
    return Clip(np.clip(canvas, 0, 255).astype(np.uint8), tracks, owners)


def tracked(random: np.random.RandomState, fewest: int = 3, most: int = 5) -> tuple[Track, ...]:
    """The objects of the clip that `draw` draws, without drawing them."""
    wanted = int(random.randint(fewest, most + 1))
    colours = [int(colour) for colour in random.permutation(len(COLOURS))]
    tracks: list[Track] = []
    favourite = int(random.randint(len(KINDS)))  # so that several of a kind are in one clip
    for _ in range(30 * wanted):
        if len(tracks) == wanted or not colours:
            break
        other = int(random.randint(len(KINDS)))
        kind = KINDS[favourite if random.randint(2) else other] if tracks else MOVING
        made = _track(random, kind, colours)
        if made is not None and _fits(made, tracks):
            tracks.append(made)
            used = {state.colour for state in made.states if state}
            colours = [colour for colour in colours if colour not in used]
    return tuple(tracks)


def _track(random: np.random.RandomState, kind: str, colours: list[int]) -> Track | None:
    """None where too few colours are left."""
    size = int(random.randint(SMALLEST, LARGEST + 1))
    x, y = (int(v) for v in random.randint(0, SIDE - size + 1, 2))
    item = Object(int(random.randint(len(SHAPES))), colours[0], None, x, y, size)
    if kind == STILL:
        return Track(kind, (item,) * FRAMES)
    if kind == APPEARING:
        onset = int(random.randint(1, FRAMES))
        return Track(kind, (None,) * onset + (item,) * (FRAMES - onset), onset=onset)
    if kind == CHANGING:
        if len(colours) < 2:
            return None
        changed = int(random.randint(2, FRAMES - 1))
        after = replace(item, colour=colours[1])
        return Track(kind, (item,) * changed + (after,) * (FRAMES - changed))
    return _moving(random, item)


def _moving(random: np.random.RandomState, item: Object) -> Track:
    """Along one side of the frame, from anywhere that leaves room for the whole way."""
    way = tuple(WAYS)[random.randint(len(WAYS))]
    step = int(random.randint(SLOWEST, FASTEST + 1))
    across, along = WAYS[way]
    start = int(random.randint(0, SIDE - item.size - step * (FRAMES - 1) + 1))
    line = [start + step * frame for frame in range(FRAMES)]
    if across + along < 0:
        line.reverse()
    states = [replace(item, x=v) if across else replace(item, y=v) for v in line]
    return Track(MOVING, tuple(states), way)


def _fits(made: Track, tracks: list[Track]) -> bool:
    """Apart from the others at all times, also before they appear; names tell them apart."""
    if made.kind == APPEARING:
        onsets = [track.onset for track in tracks if track.kind == APPEARING]
        if any(abs(made.onset - onset) < APART for onset in onsets):
            return False
    for other in tracks:
        changes = CHANGING in (made.kind, other.kind)
        if changes and made.first.shape == other.first.shape:
            return False
        for frame in range(FRAMES):
            state = made.states[frame] or made.first
            if close(other.states[frame] or other.first, state.x, state.y, state.size):
                return False
    return True
