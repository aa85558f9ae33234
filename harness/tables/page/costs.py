"""The report's figures of cost: time by phase, and tokens by layer."""

from __future__ import annotations

from typing import Any

from harness.analysis.studies import Study, Timing
from harness.records.phases import PHASES
from harness.tables.page.drawing import LARGE, SMALL, TEXT, figure, inline, plain
from harness.tables.page.series import colour, dash, marker

_DRAWN = {phase: phase.colour for phase in PHASES if phase.colour is not None}


def phases(study: Study) -> str:
    """A stacked bar a cell: median time of each phase."""
    drawn, axes = figure((LARGE[0], 1.0 + 0.2 * len(study.timings)))
    left = [0.0] * len(study.timings)
    names = [called(timing) for timing in study.timings]
    for phase, place in _DRAWN.items():
        width = [1000 * timing.phases[phase.name] for timing in study.timings]
        look: dict[str, Any] = {"color": colour(place), "label": phase.title.lower()}
        axes.barh(range(len(names)), width, left=left, height=0.72, **look)
        left = [a + b for a, b in zip(left, width, strict=True)]
    axes.set_yticks(range(len(names)), map(plain, names))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ms, medians")
    axes.legend(
        ncols=len(_DRAWN),
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


def tokens_by_layer(study: Study, budget: str, most: float) -> str:
    """A step line a method: visual tokens that entered each decoder layer, up to `most`; `budget`
    as labelled.
    """
    drawn, axes = figure(SMALL)
    words = []
    at = {asked.series: row for asked, row in study.layers.items() if asked.budget_label == budget}
    for index, (series, label) in enumerate(study.labels.items()):
        if entering := at.get(series):
            steps = range(len(entering) + 1)
            line: Any = {"color": colour(index), "linewidth": 1.4, "linestyle": dash(index)}
            axes.stairs(entering, steps, baseline=None, **line)
            # markers of methods that cut alike stand side by side
            first = len(entering) * (0.02 + 0.96 * index / len(study.labels))
            axes.plot([first], [entering[int(first)]], marker(index), color=colour(index), ms=4)
            words.append(f"{label} {entering[0]:.0f} to {entering[-1]:.0f}")
    axes.set_ylim(0, most)
    axes.set_xlabel("decoder layer")
    axes.set_ylabel("visual tokens")
    return inline(drawn, f"Visual tokens entering each layer at {budget}: {', '.join(words)}.")


def called(timing: Timing) -> str:
    """With its budget."""
    return f"{timing.label} {timing.asked.budget_label}".strip()
