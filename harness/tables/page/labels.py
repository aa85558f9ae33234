"""Names inside a figure, beside what they name and not over each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.tables.page.drawing import TEXT, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

End = tuple[float, float, str, str]
"""Of a line: its y and x, its colour and its name."""
Named = tuple[float, float, str]
"""x, y and name of a point."""
_WIDTH, _HEIGHT = 0.2, 0.062
"""Of a label, in shares of the axes."""


def beside(axes: Axes, ends: Sequence[End]) -> None:
    """Names to the right of the axes, as near to the ends of their lines as can be."""
    low, high = axes.get_ylim()
    ranked = sorted(ends, reverse=True)
    places = spread([y for y, *_ in ranked], _HEIGHT * (high - low))
    for (y, x, shade, label), place in zip(ranked, places, strict=True):
        axes.annotate(
            plain(label),
            (x, y),
            (1.06, place),
            textcoords=("axes fraction", "data"),
            va="center",
            arrowprops={
                **{"arrowstyle": "-", "color": shade, "lw": 0.8, "shrinkB": 5},
                "relpos": (0, 0.5),  # from where the name begins, and not through it
            },
            color=TEXT,
        )


def above(axes: Axes, front: Sequence[Named]) -> None:
    """Names to the upper right of the points of a falling front, where nothing else is."""
    width, height = (high - low for low, high in (axes.get_xlim(), axes.get_ylim()))
    for group in _near(front, _WIDTH * width):
        places = spread([y for _, y, _ in group], _HEIGHT * height)
        sunk = max(y - place for (_, y, _), place in zip(group, places, strict=True))
        for (x, _, label), place in zip(group, places, strict=True):
            at = (x + 0.015 * width, place + max(sunk, 0) + 0.02 * height)
            axes.annotate(plain(label), at, color=TEXT, annotation_clip=False)


def _near(points: Sequence[Named], width: float) -> list[list[Named]]:
    """From left to right, in groups whose labels could meet."""
    groups: list[list[Named]] = []
    for point in sorted(points):
        if not groups or point[0] - groups[-1][-1][0] > width:
            groups.append([])
        groups[-1].append(point)
    return groups


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Falling values moved as little as possible so that they are `gap` apart."""
    blocks: list[tuple[float, int]] = []  # means of those that touch, with all gaps taken out
    for number, value in enumerate(values):
        mean, count = value + number * gap, 1
        while blocks and blocks[-1][0] < mean:
            above, more = blocks.pop()
            mean, count = (mean * count + above * more) / (count + more), count + more
        blocks.append((mean, count))
    means = [mean for mean, count in blocks for _ in range(count)]
    return [mean - number * gap for number, mean in enumerate(means)]
