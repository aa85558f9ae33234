"""The report's figures, drawn by matplotlib as SVG that takes its colours from the page.

Series are told apart by colour and by marker. Colours are placeholders in the drawing, replaced by
CSS variables, so that light, dark and print use one picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from math import isnan
from typing import TYPE_CHECKING, Any

from harness.analysis.blocks import AVERAGE
from harness.analysis.stats import Estimate
from harness.analysis.studies import Study, Timing, average
from harness.records.phases import PHASES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT, LINES = "#010203", "#040506"
MARKERS = "osD^vPX*p<>h"
GLYPHS = "●■◆▲▼✚✖★⬟◀▶⬢"
SERIES = 8
"""Colours that the page defines; further methods begin again with other markers."""
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
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), TEXT),
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
}


def colour(index: int) -> str:
    """Placeholder of the page's colour `--s{index}`."""
    return f"#0a0b{index % SERIES:02x}"


def accuracy_against_tokens(study: Study, task: str = AVERAGE, small: bool = False) -> str:
    """A line a method over its budgets, 95 % intervals, unpruned as a level."""
    figure, axes = _figure((3.0, 2.3) if small else (4.2, 3.2))
    _level(axes, study, task)
    labels = list(study.labels)
    for index, series in enumerate(labels):
        own = [p for p in study.points if p.asked.budget and p.asked.series == series]
        shown = [p for p in own if task in p.scores]
        x = [p.tokens * 2 ** (0.035 * (index - (len(labels) - 1) / 2)) for p in shown]
        _errors(axes, x, [p.scores[task] for p in shown], index, line=True, small=small)
    axes.set_xscale("log", base=2)
    budgets = sorted({p.asked.budget for p in study.points if p.asked.budget})
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.minorticks_off()
    if small:
        axes.set_title(task.removeprefix("embedded_"), fontsize=9, color=TEXT)
    else:
        axes.set_xlabel("visual tokens entering a layer, counted")
        axes.set_ylabel("average score, %")
    return _svg(figure, f"{_name(task)} against counted tokens. {_words(study, task)}")


def accuracy_against_latency(study: Study) -> str:
    """A point a method and budget: time to the first token, average score; with the front.

    Empty where nothing was both answered and timed.
    """
    scores = {p.asked: s for p in study.points if (s := average(p)) is not None}
    found = [(t, scores[t.asked]) for t in study.timings if t.asked in scores]
    if not found:
        return ""
    figure, axes = _figure((4.2, 3.2))
    for timing, score in found:
        asked = timing.asked
        index = None if asked.budget is None else list(study.labels).index(asked.series)
        x = _milliseconds(timing.first_token_seconds)
        _errors(axes, [x.value], [score], index, spread=x)
        axes.annotate(
            asked.budget_label or "unpruned",
            (x.value, score.value),
            (5, 4),
            textcoords="offset points",
            fontsize=7.5,
            color=TEXT,
        )
    front = pareto([(t.first_token_seconds.value, s.value) for t, s in found])
    axes.plot(
        *zip(*[(1000 * x, y) for x, y in front], strict=True),
        color=TEXT,
        linewidth=0.9,
        linestyle=(0, (4, 3)),
        zorder=1,
    )
    axes.set_xlabel("time to the first token, ms, median and quartiles")
    axes.set_ylabel("average score, %")
    on_front = [_called(t) for t, s in found if (t.first_token_seconds.value, s.value) in front]
    return _svg(
        figure, f"Average score against latency. On the Pareto front: {', '.join(on_front)}."
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (cost, score) that no other beats in both, from cheap to dear."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def phases(study: Study) -> str:
    """A stacked bar a cell: median time of each phase."""
    figure, axes = _figure((4.2, 1.0 + 0.2 * len(study.timings)))
    left = [0.0] * len(study.timings)
    names = [_called(timing) for timing in study.timings]
    for phase in PHASES:
        if phase.colour is None:
            continue
        width = [1000 * timing.phases[phase.name] for timing in study.timings]
        look: dict[str, Any] = {"color": colour(phase.colour), "label": phase.title.lower()}
        axes.barh(range(len(names)), width, left=left, height=0.72, **look)
        left = [a + b for a, b in zip(left, width, strict=True)]
    # a dollar would begin a formula
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ms, medians")
    axes.legend(
        ncols=3,
        loc="lower center",
        bbox_to_anchor=(0.38, 1),
        frameon=False,
        fontsize=7.5,
        labelcolor=TEXT,
        handlelength=1,
        handletextpad=0.4,
        columnspacing=1,
    )
    totals = ", ".join(f"{name} {total:.3g} ms" for name, total in zip(names, left, strict=True))
    return _svg(figure, f"Time by phase. In all: {totals}.")


def tokens_by_layer(study: Study, budget: str) -> str:
    """A step line a method: visual tokens that entered each decoder layer; `budget` as labelled."""
    figure, axes = _figure((4.2, 2.5))
    words = []
    at = {asked.series: row for asked, row in study.layers.items() if asked.budget_label == budget}
    for index, (series, label) in enumerate(study.labels.items()):
        if entering := at.get(series):
            line: dict[str, Any] = {"color": colour(index), "linewidth": 1.6}
            if index >= SERIES:
                line["linestyle"] = "--"
            axes.stairs(entering, range(len(entering) + 1), baseline=None, **line)
            axes.plot([0.5], entering[:1], MARKERS[index % len(MARKERS)], color=colour(index), ms=4)
            words.append(f"{label} {entering[0]:.0f} to {entering[-1]:.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("decoder layer")
    axes.set_ylabel("visual tokens")
    axes.set_title(f"budget {budget}", fontsize=9, color=TEXT)
    return _svg(figure, f"Visual tokens entering each layer at {budget}: {', '.join(words)}.")


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.add_subplot()


def _level(axes: Axes, study: Study, task: str) -> None:
    upper = study.unpruned
    if upper is None or task not in upper.scores:
        return
    score = upper.scores[task]
    axes.axhline(score.value, color=TEXT, linewidth=0.9, linestyle=(0, (1, 2)))
    if not isnan(score.low):
        axes.axhspan(score.low, score.high, color=LINES, alpha=0.35, linewidth=0)


def _errors(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[Estimate],
    index: int | None,
    line: bool = False,
    small: bool = False,
    spread: Estimate | None = None,
) -> None:
    shown = TEXT if index is None else colour(index)
    known = [not isnan(e.low) for e in y]
    below = [e.value - e.low if k else 0.0 for e, k in zip(y, known, strict=True)]
    above = [e.high - e.value if k else 0.0 for e, k in zip(y, known, strict=True)]
    across = [[spread.value - spread.low], [spread.high - spread.value]] if spread else None
    axes.errorbar(
        x,
        [e.value for e in y],
        yerr=[below, above],
        xerr=across,
        fmt=MARKERS[(index or 0) % len(MARKERS)] + ("-" if line else ""),
        color=shown,
        markersize=3.5 if small else 5,
        linewidth=1.1,
        elinewidth=0.8,
    )


def _milliseconds(seconds: Estimate) -> Estimate:
    return Estimate(1000 * seconds.value, 1000 * seconds.low, 1000 * seconds.high)


def _called(timing: Timing) -> str:
    return f"{timing.label} {timing.asked.budget_label}".strip()


def _name(task: str) -> str:
    return "Average score" if task == AVERAGE else f"Score in {task.removeprefix('embedded_')}"


def _words(study: Study, task: str) -> str:
    said = [
        f"{p.label}{' at ' * bool(p.asked.budget)}{p.asked.budget_label} {p.scores[task].value:.1f}"
        for p in study.points
        if task in p.scores
    ]
    return ", ".join(said) + "."


def _svg(figure: Figure, description: str) -> str:
    """Inline SVG as an image with a description, without a size of its own."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context(_STYLE):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    (box,) = re.findall(r'viewBox="[^"]+"', drawn[:500])
    label = escape(description)
    head = f'<svg {box} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{label}">'
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    return _coloured(head + drawn[drawn.index(">") + 1 :])


def _coloured(drawn: str) -> str:
    """Placeholders replaced by the page's variables."""
    names = {TEXT: "currentColor", LINES: "var(--line)"}
    names |= {colour(i): f"var(--s{i})" for i in range(SERIES)}
    for placeholder, name in names.items():
        drawn = drawn.replace(placeholder, name)
    return drawn
