"""Published figures as rows of the paper's table, below what was measured at the same budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from harness import published
from harness.footnotes import Footnotes
from harness.numbers import number
from harness.paper_blocks import Block
from harness.render import Parts
from harness.stats import mean_of


def published_rows(
    block: Block, tasks: Sequence[str], columns: int, sources: Footnotes
) -> Iterator[tuple[Parts, ...]]:
    """What is printed for the block's model, budget and benchmarks, a row a method and source.

    `columns` are left empty between the benchmarks and the difference to what was measured.
    """
    budget, model = block.lines[0].row.budget, published.model_of(block.checkpoint)
    if budget is None or model is None:
        return
    wanted = {published.BENCHMARKS[task] for task in tasks if task in published.BENCHMARKS}
    found = [f for f in published.at(model, budget, "value") if f.benchmark in wanted]
    for (method, source, kind), held in published.rows_of(found).items():
        values = [held.get(published.BENCHMARKS.get(task, "")) for task in tasks]
        cells = [(f"{f.value:.1f}", "", "", "", "") if f else () for f in values]
        yield (
            (block.model, str(budget), method + sources.mark(f"{source} ({kind})"), ""),
            (kind,),
            (),
            *cells,
            *[()] * columns,
            (_difference(block, method, dict(zip(tasks, values, strict=True))),),
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
