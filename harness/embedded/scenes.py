"""Scenes of coloured shapes, drawn from a seed with integers alone.

The same seed gives the same bytes on every machine: `numpy.random.RandomState` has frozen streams,
and masks, blending and textures use integer arithmetic only, so nothing depends on a font, on a
drawing library or on how a processor rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

PATCH = 7
"""Side of one patch of the vision tower, in pixels."""
GRID = 24
"""Patches along one side of a whole image."""
SIDE = PATCH * GRID
"""Side of a whole image, in pixels."""

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
RGB = ((210, 40, 40), (40, 160, 60), (50, 80, 220), (225, 205, 50), (140, 60, 170), (240, 140, 30))
DARK_DIGIT = ("yellow", "orange")
"""Colours bright enough for black digits; the others carry white ones."""
SMALLEST, LARGEST = 11, 26
"""Sides of an object's box, in pixels."""
SMALLEST_WITH_DIGIT = 16

FINE = 4
"""Samples along one side of a pixel, so that coverage runs from 0 to FINE * FINE."""
FULL = FINE * FINE
LABEL_PIXELS = 8
"""A patch bears an object's labels when at least this many of its 49 pixels (15 %) show it."""

GLYPHS = (
    ("01110", "10001", "10011", "10101", "11001", "10001", "01110"),
    ("00100", "01100", "00100", "00100", "00100", "00100", "01110"),
    ("01110", "10001", "00001", "00110", "01000", "10000", "11111"),
    ("11110", "00001", "00001", "01110", "00001", "00001", "11110"),
    ("00010", "00110", "01010", "10010", "11111", "00010", "00010"),
    ("11111", "10000", "11110", "00001", "00001", "10001", "01110"),
    ("00110", "01000", "10000", "11110", "10001", "10001", "01110"),
    ("11111", "00001", "00010", "00100", "01000", "01000", "01000"),
    ("01110", "10001", "10001", "01110", "10001", "10001", "01110"),
    ("01110", "10001", "10001", "01111", "00001", "00010", "01100"),
)

TRAINING_KEY, VALIDATION_KEY, BENCHMARK_KEY = 1, 2, 3
"""First words of the seeds of three streams of images that never meet."""


@dataclass(frozen=True)
class Object:
    """One shape: indices into SHAPES and COLOURS, its digit or None, its box in pixels.

    `x` and `y` are the box's left and top; they may be negative, the box may pass the border.
    """

    shape: int
    colour: int
    digit: int | None
    x: int
    y: int
    size: int

    @property
    def centre(self) -> tuple[int, int]:
        """(x, y) of the centre in half pixels, which keeps it an integer."""
        return 2 * self.x + self.size, 2 * self.y + self.size


@dataclass(frozen=True)
class Scene:
    """What was drawn.

    pixels: uint8 [side, side, 3]; labels: int8 [grid * grid, 4], each patch's shape, colour and
    digit plus one (0 where there is none) and whether an object's centre lies in it.
    """

    pixels: np.ndarray
    objects: tuple[Object, ...]
    labels: np.ndarray


def draw(random: np.random.RandomState, grid: int, fewest: int, most: int) -> Scene:
    """Grid x grid patches with `fewest` to `most` objects, or fewer where there is no room."""
    if not 1 <= grid <= GRID:
        raise ValueError(f"a scene has 1 to {GRID} patches a side, not {grid}")
    if not 0 <= fewest <= most:
        raise ValueError(f"{fewest} to {most} objects is not a range")
    side = grid * PATCH
    canvas = background(random, side)
    objects = _place(random, side, int(random.randint(fewest, most + 1)))
    owner = np.zeros((side, side), np.int8)
    for number, item in enumerate(objects, start=1):
        paint(canvas, owner, item, number, tint(random))
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    return Scene(pixels, objects, _labels(owner, objects, grid))


def background(random: np.random.RandomState, side: int) -> np.ndarray:
    """int16 [side, side, 3]: tiles (or stripes) of similar colours under grainy noise."""
    rows, columns = random.randint(1, 7, 2)
    tiles = random.randint(60, 201, 3) + random.randint(-35, 36, (rows, columns, 3))
    line = np.arange(side)
    texture = tiles[line * rows // side][:, line * columns // side].astype(np.int16)
    raw = np.frombuffer(random.bytes(side * side), np.uint8).reshape(side, side, 1)
    # the sum of two nibbles is triangular around 15: a rounder noise than a flat one
    grain = (raw & 15).astype(np.int16) + (raw >> 4) - 15
    return texture + grain * int(random.randint(2, 12)) // 8


def _place(random: np.random.RandomState, side: int, wanted: int) -> tuple[Object, ...]:
    """Objects that do not touch each other; a small palette makes repeats and distractors occur."""
    shapes = random.permutation(len(SHAPES))[: random.randint(2, 5)]
    colours = random.permutation(len(COLOURS))[: random.randint(2, 5)]
    placed: list[Object] = []
    for _ in range(16 * wanted):
        if len(placed) == wanted:
            break
        shape = int(shapes[random.randint(len(shapes))])
        colour = int(colours[random.randint(len(colours))])
        size = int(random.randint(SMALLEST, LARGEST + 1))
        outside = size // 6
        x, y = (int(v) for v in random.randint(-outside, side - size + outside + 1, 2))
        repeated = any((o.shape, o.colour) == (shape, colour) for o in placed)
        if repeated and random.randint(10) < 7:
            continue
        if any(close(o, x, y, size) for o in placed):
            continue
        has_digit = size >= SMALLEST_WITH_DIGIT and SHAPES[shape] != "ring"
        digit = int(random.randint(10)) if has_digit and random.randint(10) < 6 else None
        placed.append(Object(shape, colour, digit, x, y, size))
    return tuple(placed)


def close(other: Object, x: int, y: int, size: int) -> bool:
    """Whether a box is less than two pixels from another object's."""
    gap = 2
    across = x < other.x + other.size + gap and other.x < x + size + gap
    return across and y < other.y + other.size + gap and other.y < y + size + gap


def tint(random: np.random.RandomState) -> np.ndarray:
    """int64 [3], how far one object's colour is from its name's."""
    return random.randint(-20, 21, 3)


def paint(
    canvas: np.ndarray, owner: np.ndarray, item: Object, number: int, tinted: np.ndarray
) -> None:
    """Blends one object into `canvas` and writes its number into `owner`, cut at the border."""
    cover = shape_mask(item.shape, item.size)
    colour = np.array(RGB[item.colour]) + tinted
    tile = np.broadcast_to(np.clip(colour, 0, 255), (item.size, item.size, 3)).astype(np.int16)
    if item.digit is not None:
        ink = _digit_mask(item.digit, item.size, SHAPES[item.shape] == "triangle")
        tone = 0 if COLOURS[item.colour] in DARK_DIGIT else 255
        tile = _blend(tile, np.full_like(tile, tone), ink)
        cover = np.maximum(cover, ink)
    side = len(canvas)
    top, left = max(item.y, 0), max(item.x, 0)
    bottom, right = min(item.y + item.size, side), min(item.x + item.size, side)
    rows, columns = slice(top, bottom), slice(left, right)
    inner = (slice(top - item.y, bottom - item.y), slice(left - item.x, right - item.x))
    canvas[rows, columns] = _blend(canvas[rows, columns], tile[inner], cover[inner])
    owner[rows, columns][2 * cover[inner] > FULL] = number


def _blend(below: np.ndarray, above: np.ndarray, cover: np.ndarray) -> np.ndarray:
    share = cover[..., None]
    return (below * (FULL - share) + above * share + FULL // 2) // FULL


@cache
def shape_mask(shape: int, size: int) -> np.ndarray:
    """int16 [size, size] in 0..FULL: how many of each pixel's samples lie in the shape."""
    fine = FINE * size
    line = 2 * np.arange(fine) + 1 - fine  # sample centres, from -fine to fine
    u, v = line[None, :], line[:, None]
    name, radius = SHAPES[shape], u * u + v * v
    if name == "circle":
        inside = radius <= fine * fine
    elif name == "square":
        inside = np.maximum(abs(u), abs(v)) * 25 <= 22 * fine
    elif name == "triangle":
        inside = 2 * abs(u) <= v + fine
    elif name == "cross":
        inside = np.minimum(abs(u), abs(v)) * 5 <= 2 * fine
    else:
        inside = (radius <= fine * fine) & (radius * 625 >= 121 * fine * fine)
    return _pixels(inside)


@cache
def _digit_mask(digit: int, size: int, low: bool) -> np.ndarray:
    """int16 [size, size] in 0..FULL: the digit's ink in an object's box; `low` for triangles."""
    glyph = np.array([[cell == "1" for cell in row] for row in GLYPHS[digit]])
    height = size // 2 + 1
    width = (height * 5 + 3) // 7
    rows = np.arange(FINE * height) * 7 // (FINE * height)
    columns = np.arange(FINE * width) * 5 // (FINE * width)
    ink = _pixels(glyph[rows][:, columns])
    box = np.zeros((size, size), np.int16)
    top = (size - height) // 2 + (size // 6 if low else 0)
    left = (size - width) // 2
    box[top : top + height, left : left + width] = ink
    return box


def _pixels(samples: np.ndarray) -> np.ndarray:
    """Sums bool samples [FINE * h, FINE * w] to int16 [h, w]."""
    height, width = (n // FINE for n in samples.shape)
    return samples.reshape(height, FINE, width, FINE).sum((1, 3)).astype(np.int16)


def _labels(owner: np.ndarray, objects: tuple[Object, ...], grid: int) -> np.ndarray:
    """int8 [grid * grid, 4], by what a patch shows, not by boxes: corners of boxes show nothing."""
    labels = np.zeros((grid, grid, 4), np.int8)
    patches = owner.reshape(grid, PATCH, grid, PATCH)
    for number, item in enumerate(objects, start=1):
        shown = (patches == number).sum((1, 3)) >= LABEL_PIXELS
        digit = 0 if item.digit is None else item.digit + 1
        labels[shown, :3] = (item.shape + 1, item.colour + 1, digit)
        column, row = (min(max(c // (2 * PATCH), 0), grid - 1) for c in item.centre)
        labels[row, column, 3] = 1
    return labels.reshape(-1, 4)
