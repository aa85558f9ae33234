"""Published figures as rows of the paper's table, below what was measured at the same budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from harness.analysis.blocks import Block
from harness.analysis.stats import mean_of
from harness.analysis.task_scores import Column
from harness.tables import published
from harness.tables.footnotes import Footnotes
from harness.tables.numbers import number
from harness.tables.table import Parts


def published_rows(
    block: Block, tasks: Sequence[Column], columns: int, sources: Footnotes
) -> Iterator[tuple[Parts, ...]]:
    """What is printed for the block's model, budget and benchmarks, a row a method and source;
    no paper is known to print anything for a share, or for a budget of FLOPs.

    `columns` are left empty between the benchmarks and the difference to what was measured.
    """
    asked, model = block.lines[0].row.asked, published.model_of(block.checkpoint)
    budget = asked.budget
    if not isinstance(budget, int) or asked.in_flops or model is None:
        return
    wanted = {(task.metric.benchmark, metric) for task in tasks for metric in task.metric.published}
    found = published.at(model, budget, "value", wanted)
    for (method, source, kind), held in published.rows_of(found).items():
        values = [held.get(task.metric.benchmark) for task in tasks]
        cells = [(f"{f.value:.1f}", "", "", "", "") if f else () for f in values]
        names = [task.name for task in tasks]
        yield (
            (block.model, str(budget), method + sources.mark(f"{source} ({kind})"), ""),
            (kind,),
            (),
            *cells,
            *[()] * columns,
            (_difference(block, method, dict(zip(names, values, strict=True))),),
        )


def _difference(block: Block, method: str, values: dict[str, published.Figure | None]) -> str:
    """Measured minus published over the benchmarks that have both; empty where none has."""
    line = next((line for line in block.lines if line.row.label == method), None)
    if line is None:
        return ""
    differences = [
        mean_of(line.values[task]) - figure.value
        for task, figure in values.items()
        if figure is not None and figure.value is not None and line.values.get(task)
    ]
    return number(fmean(differences), sign=True) if differences else ""
