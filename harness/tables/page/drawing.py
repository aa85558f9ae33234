"""Figures of matplotlib as SVG: with the page's colours inside the page, or a file of its own.

Colours are placeholders in the drawing. On the page they become CSS variables, so that light, dark
and print use one picture; in a file they are the style sheet's light ones.
"""

from __future__ import annotations

import io
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tables.page.series import COLOURS, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGE, SMALL = (4.7, 2.75), (3.6, 2.4)
"""Inches; the page scales them."""
TEXT, SOFT, LINES = "#010203", "#020304", "#040506"
STYLE_SHEET = Path(__file__).parent / "style.css"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "grid.color": LINES,
    "axes.edgecolor": LINES,
    "axes.linewidth": 0.8,
    "text.color": TEXT,
    **dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color"), SOFT),
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
}
_NAMES = {TEXT: "text", SOFT: "soft", LINES: "line"} | {
    colour(index): f"s{index}" for index in range(COLOURS)
}


def figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """An empty one, `size` in inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        made = Figure(figsize=size, layout="constrained")
        return made, made.add_subplot()


def plain(text: str) -> str:
    """For matplotlib, where a dollar would begin a formula."""
    return text.replace("$", r"\$")


def inline(drawn: Figure, description: str) -> str:
    """For the page: an image with a description, without a size of its own."""
    head = f'role="img" aria-label="{escape(description)}"'
    return _svg(drawn, head, "", {name: f"var(--{css})" for name, css in _NAMES.items()})


def standalone(drawn: Figure, title: str, description: str) -> str:
    """A file: on white, in the light colours, with title and description inside."""
    width, height = (round(96 * inches) for inches in drawn.get_size_inches())
    head = f'xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img"'
    told = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    colours = light_colours()
    return _svg(drawn, head, told + ground, {n: colours[css] for n, css in _NAMES.items()}) + "\n"


def light_colours() -> dict[str, str]:
    """The style sheet's first block of variables, by name."""
    block = STYLE_SHEET.read_text().partition("}")[0]
    return dict(re.findall(r"--(\w+): (#\w+);", block))


def _svg(drawn: Figure, head: str, begin: str, colours: dict[str, str]) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context(_STYLE):
        drawn.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = buffer.getvalue()
    (box,) = re.findall(r'viewBox="[^"]+"', text)
    body = _lighter(text[text.index(">", text.index("<svg")) + 1 :])
    for placeholder, shown in colours.items():
        body = body.replace(placeholder, shown)
    return f'<svg {box} xmlns:xlink="http://www.w3.org/1999/xlink" {head}>{begin}{body.strip()}'


def _lighter(drawn: str) -> str:
    """Without what no reader sees: the maker, names of groups, hundredths of a hundredth."""
    drawn = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r' id="[A-Za-z.]+_\d+"', "", drawn)
    drawn = re.sub(
        r'( (?:d|x|y|points|transform)=")([^"]*)',
        lambda found: found[1] + re.sub(r"(\.\d\d)\d+", r"\1", found[2]),
        drawn,
    )
    return re.sub(r"\s*\n\s*", "\n", drawn)
