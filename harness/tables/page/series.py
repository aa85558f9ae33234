"""How a method is drawn: a colour, a marker and a dash of its own, the same in every figure.

Colours alone are not told apart by everybody; no two methods share colour and marker.
"""

from __future__ import annotations

from typing import Any

COLOURS = 12
"""As many as the style sheet defines, `--s0` and on; as many markers."""
MARKERS = "os^DvPX*<>dp"
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
_SIZE = 9.0
_MIDDLE = 14.0


def colour(index: int) -> str:
    """A placeholder for the style sheet's colour."""
    return f"#0a0b{index % COLOURS:02x}"


def marker(index: int) -> str:
    """Moves on by one whenever the colours begin again."""
    return MARKERS[(index + index // COLOURS) % len(MARKERS)]


def dash(index: int) -> Any:
    """Solid for the first methods, as matplotlib wants it."""
    return DASHES[index // COLOURS % len(DASHES)]


def swatch(index: int) -> str:
    """The line and the marker as a small picture for the legend."""
    lengths = "" if dash(index) == "solid" else " ".join(map(str, dash(index)[1]))
    return (
        f'<svg class="swatch" viewBox="0 0 28 14" aria-hidden="true" '
        f'style="color: var(--s{index % COLOURS})">'
        f'<path d="M1 7H27" stroke="currentColor" stroke-width="1.6" stroke-dasharray="{lengths}"/>'
        f'<path d="{_outline(marker(index))}" fill="currentColor"/></svg>'
    )


def _outline(symbol: str) -> str:
    """A marker as an SVG path."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.transforms import Affine2D

    style = MarkerStyle(symbol)
    upright = style.get_path().transformed(style.get_transform())
    shape = upright.transformed(Affine2D().scale(_SIZE, -_SIZE))
    rings: Any = shape.to_polygons()
    return "".join(
        "M" + "L".join(f"{x + _MIDDLE:.1f} {y + 7:.1f}" for x, y in ring) + "Z" for ring in rings
    )
