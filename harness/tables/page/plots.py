"""The report's figures: what is drawn, and what a reader who does not see it is told."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from harness.analysis.blocks import AVERAGE, RELATIVE
from harness.analysis.stats import Estimate
from harness.analysis.studies import Point, Study, Timing
from harness.tables.page.drawing import LINES, SOFT, TEXT, figure, inline, standalone
from harness.tables.page.series import colour, dash, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Range = tuple[float, float]

LARGE, SMALL = (4.7, 2.75), (3.6, 2.4)
PHASES = {
    "vision_tower": "vision tower",
    "projector": "projector",
    "selection": "selection",
    "prefill": "prefill",
    "decode": "decode",
}
_PHASE_COLOURS = (4, 5, 1, 0, 2)
_LABEL_WIDTH, _LABEL_HEIGHT = 0.2, 0.062  # of the axes
_APART, _ALL_APART = 0.035, 0.3  # of an octave of tokens
_NAMES = {AVERAGE: "average score", RELATIVE: "mean relative score"}


def accuracy_against_tokens(study: Study, task: str, limits: Range | None = None) -> str:
    """A line a method over its budgets, 95 % intervals, unpruned as a level.

    Small where it is one of several with the same `limits` of the scores, in percent.
    """
    drawn, axes = figure(SMALL if limits else LARGE)
    _against_tokens(axes, study, task)
    axes.set_xlabel("visual tokens, counted" if limits else "visual tokens entering a layer, counted")
    axes.set_ylabel("score, %" if limits else f"{_NAMES[task]}, %")
    if limits:
        axes.set_ylim(*limits)
    return inline(drawn, _told(study, task))


def accuracy_file(study: Study) -> str:
    """`accuracy_against_tokens` over all benchmarks as an SVG file, its lines named beside them."""
    drawn, axes = figure((7.9, 4.4))
    _against_tokens(axes, study, study.overall)
    _name_lines(axes, study)
    axes.set_xlabel("visual tokens entering a decoder layer, counted (log scale)")
    axes.set_ylabel(f"{_NAMES[study.overall]}, %")
    return standalone(drawn, "Accuracy against counted visual tokens", _told(study, study.overall))


def limits_of(study: Study, tasks: Sequence[str]) -> Range:
    """A range that holds the scores and intervals of all these tasks."""
    scores = [p.scores[task] for p in study.points for task in tasks if task in p.scores]
    bounds = [b for s in scores for b in (s.value, s.low, s.high) if not isnan(b)]
    low, high = min(bounds, default=0.0), max(bounds, default=100.0)
    room = 0.04 * (high - low) + 0.5
    return low - room, high + room


def accuracy_against_speedup(study: Study) -> str:
    """A point a method and budget: measured speed-up of the prefill, score; with the front.

    Empty where nothing was both answered and timed.
    """
    overall = study.overall
    scores = {(p.method, p.budget): p.scores[overall] for p in study.points if overall in p.scores}
    timed = [t for t in study.timings if (t.method, t.budget) in scores]
    found = [(t, scores[t.method, t.budget]) for t in timed if not isnan(t.speedup.value)]
    if not any(timing.budget for timing, _ in found):
        return ""
    drawn, axes = figure(LARGE)
    for index, method in enumerate(study.labels):
        own = [(t, s) for t, s in found if t.method == method and t.budget]
        _errors(axes, [t.speedup for t, _ in own], [s for _, s in own], index)
    _errors(axes, *([e] for t, s in found if t.budget is None for e in (t.speedup, s)), None)
    front = pareto([(-t.speedup.value, s.value) for t, s in found])
    leading = [(t, s) for t, s in found if (-t.speedup.value, s.value) in front]
    axes.plot(*zip(*[(-x, y) for x, y in front], strict=True), color=SOFT, lw=0.9, ls=(0, (4, 3)))
    _name_points(axes, [(t.speedup.value, s.value, _called(t)) for t, s in leading])
    axes.set_xlabel("prefill speed-up, measured in the same rounds")
    axes.set_ylabel(f"{_NAMES[overall]}, %")
    axes.xaxis.set_major_formatter("{x:g}×")
    words = ", ".join(f"{_called(t)} {t.speedup.value:.2f} × {s.value:.1f}" for t, s in found)
    on_front = ", ".join(_called(timing) for timing, _ in leading)
    return inline(
        drawn, f"{_NAMES[overall]} against prefill speed-up. {words}. On the Pareto front: {on_front}."
    )


def _name_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """To the upper right of a front there is nothing but labels; they do not overlap."""
    width, height = (high - low for low, high in (axes.get_xlim(), axes.get_ylim()))
    groups: list[list[tuple[float, float, str]]] = []
    for point in sorted(points):
        if not groups or point[0] - groups[-1][-1][0] > _LABEL_WIDTH * width:
            groups.append([])
        groups[-1].append(point)
    for group in groups:
        places = spread([y for _, y, _ in group], _LABEL_HEIGHT * height)
        lift = 0.02 * height + max(0, *(group[i][1] - places[i] for i in range(len(group))))
        for (x, _, label), place in zip(group, places, strict=True):
            axes.annotate(
                label, (x + 0.015 * width, place + lift), color=TEXT, annotation_clip=False
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
    drawn, axes = figure((4.7, 1.0 + 0.2 * len(study.timings)))
    left = [0.0] * len(study.timings)
    names = [_called(timing) for timing in study.timings]
    for place, (phase, title) in zip(_PHASE_COLOURS, PHASES.items(), strict=True):
        width = [1000 * timing.phases[phase] for timing in study.timings]
        axes.barh(
            range(len(names)), width, left=left, color=colour(place), height=0.72, label=title
        )
        left = [a + b for a, b in zip(left, width, strict=True)]
    # a dollar would begin a formula
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ms, medians")
    axes.legend(
        ncols=len(PHASES),
        loc="lower right",
        bbox_to_anchor=(1, 1),
        frameon=False,
        fontsize=7.5,
        labelcolor=TEXT,
        handlelength=0.8,
        handletextpad=0.3,
        columnspacing=0.8,
    )
    totals = ", ".join(f"{name} {total:.3g} ms" for name, total in zip(names, left, strict=True))
    return inline(drawn, f"Time by phase. In all: {totals}.")


def tokens_by_layer(study: Study, budget: int, limits: Range) -> str:
    """A step line a method: visual tokens that entered each decoder layer."""
    drawn, axes = figure(SMALL)
    words = []
    for index, (method, label) in enumerate(study.labels.items()):
        entering = study.layers.get((method, budget))
        if entering:
            steps = range(len(entering) + 1)
            line: Any = {"color": colour(index), "linewidth": 1.4, "linestyle": dash(index)}
            axes.stairs(entering, steps, baseline=None, **line)
            # markers of methods that cut alike stand side by side
            first = len(entering) * (0.02 + 0.96 * index / len(study.labels))
            axes.plot([first], [entering[int(first)]], marker(index), color=colour(index), ms=4)
            words.append(f"{label} {entering[0]:.0f} to {entering[-1]:.0f}")
    axes.set_ylim(*limits)
    axes.set_xlabel("decoder layer")
    axes.set_ylabel("visual tokens")
    return inline(drawn, f"Visual tokens entering each layer at {budget}: {', '.join(words)}.")


def _against_tokens(axes: Axes, study: Study, task: str) -> None:
    """From large budgets to small: further right is pruned harder, as with the speed-up."""
    _level(axes, study, task)
    for index, method in enumerate(study.labels):
        own = _line(study, method, task)
        x = [Estimate(p.tokens * _shift(study, index), nan, nan) for p in own]
        _errors(axes, x, [p.scores[task] for p in own], index, line=True)
    axes.set_xscale("log", base=2)
    budgets = sorted({point.budget for point in study.points if point.budget})
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.minorticks_off()
    axes.invert_xaxis()


def _shift(study: Study, index: int) -> float:
    """Sets the methods apart, so that their intervals are seen: a factor of the tokens."""
    methods = len(study.labels)
    return float(2 ** (min(_APART, _ALL_APART / methods) * ((methods - 1) / 2 - index)))


def _line(study: Study, method: str, task: str) -> list[Point]:
    return [p for p in study.points if p.method == method and p.budget and task in p.scores]


def _name_lines(axes: Axes, study: Study) -> None:
    """Labels at the right end, as near to their lines as they do not overlap."""
    low, high = axes.get_ylim()
    ends = [
        (own[-1].scores[study.overall].value, own[-1].tokens * _shift(study, i), colour(i), label)
        for i, (method, label) in enumerate(study.labels.items())
        if (own := _line(study, method, study.overall))
    ]
    if study.unpruned:
        ends.append((study.unpruned.scores[study.overall].value, axes.get_xlim()[1], TEXT, "Unpruned"))
    ends.sort(reverse=True)
    places = spread([end[0] for end in ends], _LABEL_HEIGHT * (high - low))
    for (score, tokens, shade, label), place in zip(ends, places, strict=True):
        axes.annotate(
            f"{label}  {score:.1f}",
            (tokens, score),
            (1.06, place),
            textcoords=("axes fraction", "data"),
            va="center",
            arrowprops={"arrowstyle": "-", "color": shade, "lw": 0.8, "shrinkB": 5},
            color=TEXT,
        )


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


def _level(axes: Axes, study: Study, task: str) -> None:
    upper = next((p for p in study.points if p.budget is None and task in p.scores), None)
    if upper is None:
        return
    score = upper.scores[task]
    axes.axhline(score.value, color=TEXT, linewidth=0.9, linestyle=(0, (1, 2)))
    if not isnan(score.low):
        axes.axhspan(score.low, score.high, color=LINES, alpha=0.35, linewidth=0)


def _errors(
    axes: Axes, x: Sequence[Estimate], y: Sequence[Estimate], index: int | None, line: bool = False
) -> None:
    """Markers with the intervals that there are; None is unpruned."""
    shown = TEXT if index is None else colour(index)
    axes.errorbar(
        [e.value for e in x],
        [e.value for e in y],
        xerr=None if line else _reach(x),
        yerr=_reach(y),
        fmt="o" if index is None else marker(index),
        linestyle=dash(index or 0) if line else "none",
        color=shown,
        markerfacecolor="none" if index is None else shown,
        markersize=5,
        linewidth=1.2,
        elinewidth=0.8,
    )


def _reach(estimates: Sequence[Estimate]) -> list[list[float]]:
    known = [e if not isnan(e.low) else Estimate(e.value, e.value, e.value) for e in estimates]
    return [[e.value - e.low for e in known], [e.high - e.value for e in known]]


def _called(timing: Timing) -> str:
    return timing.label + (f" {timing.budget}" if timing.budget else "")


def _told(study: Study, task: str) -> str:
    name = _NAMES.get(task) or f"score in {task.removeprefix('embedded_')}"
    said = [
        f"{p.label}{f' at {p.budget}' if p.budget else ''} {p.scores[task].value:.1f}"
        for p in study.points
        if task in p.scores
    ]
    return f"{name[0].upper()}{name[1:]} in percent against counted tokens. {', '.join(said)}."
