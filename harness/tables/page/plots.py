"""The report's figures of accuracy, each with what a reader who does not see it is told."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import TYPE_CHECKING

from harness.analysis.blocks import AVERAGE, RELATIVE
from harness.analysis.stats import Estimate
from harness.analysis.studies import Point, Study, series_label
from harness.analysis.task_scores import short
from harness.records.cell import Asked
from harness.tables.page.costs import called
from harness.tables.page.drawing import (
    LARGE,
    LINES,
    SMALL,
    SOFT,
    TEXT,
    figure,
    inline,
    plain,
    standalone,
)
from harness.tables.page.labels import End, above, beside
from harness.tables.page.series import colour, dash, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Range = tuple[float, float]

_APART, _ALL_APART = 0.035, 0.3  # of an octave of tokens
_NAMES = {AVERAGE: "average score", RELATIVE: "mean relative score"}


def accuracy_against_tokens(study: Study, task: str, limits: Range | None = None) -> str:
    """A line a method over its budgets, 95 % intervals, unpruned as a level.

    Small where it is one of several with the same `limits` of the scores, in percent.
    """
    drawn, axes = figure(SMALL if limits else LARGE)
    _against_tokens(axes, study, task)
    axes.set_xlabel(f"visual tokens{'' if limits else ' entering a layer'}, counted")
    axes.set_ylabel("score, %" if limits else f"{_NAMES[task]}, %")
    if limits:
        axes.set_ylim(*limits)
    return inline(drawn, _told(study, task))


def accuracy_by_method(study: Study) -> str:
    """Of one budget: a row a method from the best on, 95 % intervals, unpruned as a level."""
    scored = [p for p in study.points if p.asked.budget and study.overall in p.scores]
    ranked = sorted(scored, key=lambda point: -point.scores[study.overall].value)
    drawn, axes = figure((LARGE[0], 0.8 + 0.19 * len(ranked)))
    _level(axes, study, study.overall, across=False)
    every = list(study.labels)
    for row, point in enumerate(ranked):
        place = Estimate(row, nan, nan)
        _errors(axes, [point.scores[study.overall]], [place], every.index(point.asked.series))
    axes.set_yticks(range(len(ranked)), [plain(point.label) for point in ranked], color=TEXT)
    axes.invert_yaxis()
    axes.set_xlabel(f"{_NAMES[study.overall]}, %")
    return inline(drawn, _told(study, study.overall))


def accuracy_file(study: Study) -> str:
    """`accuracy_against_tokens` over all benchmarks as an SVG file, its lines named beside them."""
    drawn, axes = figure((7.9, 4.4))
    _against_tokens(axes, study, study.overall)
    beside(axes, _ends(axes, study))
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
    scores = {p.asked: p.scores[overall] for p in study.points if overall in p.scores}
    timed = [t for t in study.timings if t.asked in scores and not isnan(t.speedup.value)]
    found = [(t, scores[t.asked]) for t in timed]
    if not any(timing.asked.budget for timing, _ in found):
        return ""
    drawn, axes = figure(LARGE)
    for index, series in enumerate(study.labels):
        own = [(t, s) for t, s in found if t.asked.budget and t.asked.series == series]
        _errors(axes, [t.speedup for t, _ in own], [s for _, s in own], index)
    whole = [(t, s) for t, s in found if t.asked.is_unpruned]
    _errors(axes, [t.speedup for t, _ in whole], [s for _, s in whole], None)
    front = pareto([(-t.speedup.value, s.value) for t, s in found])
    leading = [(t, s) for t, s in found if (-t.speedup.value, s.value) in front]
    axes.plot(*zip(*[(-x, y) for x, y in front], strict=True), color=SOFT, lw=0.9, ls=(0, (4, 3)))
    above(axes, [(t.speedup.value, s.value, called(t)) for t, s in leading])
    axes.set_xlabel("prefill speed-up, measured in the same rounds")
    axes.set_ylabel(f"{_NAMES[overall]}, %")
    axes.xaxis.set_major_formatter("{x:g}×")
    words = ", ".join(f"{called(t)} {t.speedup.value:.2f} × {s.value:.1f}" for t, s in found)
    on_front = ", ".join(called(timing) for timing, _ in leading)
    told = f"{_NAMES[overall]} against prefill speed-up. {words}. On the Pareto front: {on_front}."
    return inline(drawn, told)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (cost, score) that no other beats in both, from cheap to dear."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _against_tokens(axes: Axes, study: Study, task: str) -> None:
    """From large budgets to small: further right is pruned harder, as with the speed-up."""
    _level(axes, study, task)
    for index, series in enumerate(study.labels):
        own = _line(study, series, task)
        x = [Estimate(p.tokens * _shift(study, index), nan, nan) for p in own]
        _errors(axes, x, [p.scores[task] for p in own], index, line=True)
    axes.set_xscale("log", base=2)
    placed = {p.asked.budget: _tick(p) for p in study.points if p.asked.budget}
    ticks = sorted((place, str(budget)) for budget, place in placed.items())
    axes.set_xticks([place for place, _ in ticks], [label for _, label in ticks])
    axes.minorticks_off()
    axes.invert_xaxis()


def _tick(point: Point) -> float:
    """In tokens; a share stands where the tokens of one that asked for it were counted."""
    budget = point.asked.budget
    return budget if isinstance(budget, int) else point.tokens


def _shift(study: Study, index: int) -> float:
    """Sets the methods apart, so that their intervals are seen: a factor of the tokens."""
    count = len(study.labels)
    return float(2 ** (min(_APART, _ALL_APART / count) * ((count - 1) / 2 - index)))


def _line(study: Study, series: Asked, task: str) -> list[Point]:
    own = (p for p in study.points if p.asked.budget and p.asked.series == series)
    return [point for point in own if task in point.scores]


def _ends(axes: Axes, study: Study) -> list[End]:
    """Where the lines end, on the right, and what they are called there."""
    found = [
        (line[-1], line[-1].tokens * _shift(study, index), colour(index))
        for index, series in enumerate(study.labels)
        if (line := _line(study, series, study.overall))
    ]
    if study.unpruned and study.overall in study.unpruned.scores:
        found.append((study.unpruned, axes.get_xlim()[1], TEXT))
    scores = [point.scores[study.overall].value for point, *_ in found]
    return [
        (score, x, shade, f"{series_label(point)}  {score:.1f}")
        for score, (point, x, shade) in zip(scores, found, strict=True)
    ]


def _level(axes: Axes, study: Study, task: str, across: bool = True) -> None:
    upper = study.unpruned
    if upper is None or task not in upper.scores:
        return
    score = upper.scores[task]
    line, band = (axes.axhline, axes.axhspan) if across else (axes.axvline, axes.axvspan)
    line(score.value, color=TEXT, linewidth=0.9, linestyle=(0, (1, 2)))
    if not isnan(score.low):
        band(score.low, score.high, color=LINES, alpha=0.35, linewidth=0)


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


def _told(study: Study, task: str) -> str:
    name = _NAMES.get(task) or f"score in {short(task)}"
    said = [
        f"{p.label}{' at ' * bool(p.asked.budget)}{p.asked.budget_label} {p.scores[task].value:.1f}"
        for p in study.points
        if task in p.scores
    ]
    return f"{name[0].upper()}{name[1:]} in percent against counted tokens. {', '.join(said)}."
