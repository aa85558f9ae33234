"""What papers print, as data: read, chosen between sources, and laid out with them.

`README.md` beside this file tells how the figures are to be read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from harness.errors import BadInput, unknown
from harness.tables.footnotes import Footnotes
from harness.tables.numbers import number
from harness.tables.table import Column, Parts, Table

AVERAGE = "Average (relative)"
UNPRUNED = "Unpruned"
KINDS = ("paper", "repo", "secondary")
TRAPS = (
    "Percent of unpruned in the same source's table. Rows of different sources are different runs, "
    "and their averages cover different benchmarks: ViTCoP's eleven with three of captioning, "
    "others none."
)


@dataclass(frozen=True)
class Figure:
    """One printed number: `value` on the benchmark's scale, `relative` in percent of unpruned."""

    model: str
    method: str
    budget: str
    benchmark: str
    metric: str
    value: float | None
    relative: float | None
    source: str
    kind: str
    note: str


@cache
def figures() -> tuple[Figure, ...]:
    """All of `accuracy.csv`, in its order."""
    with (Path(__file__).parent / "accuracy.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_figure(row) for row in csv.DictReader(file))


def _figure(row: dict[str, str]) -> Figure:
    value, relative = (
        float(row[name]) if row[name] else None
        for name in ("value", "relative_to_unpruned_percent")
    )
    return Figure(
        row["model"],
        row["method"],
        row["budget_tokens"],
        row["benchmark"],
        row["metric"],
        value,
        relative,
        row["source"],
        row["source_kind"],
        row["note"],
    )


def preferred(found: Iterable[Figure]) -> list[Figure]:
    """Of each method's figures on a benchmark the best sourced: paper, repository, transcription;
    among these the method's own before a rival's, then the first.
    """
    best: dict[tuple[str, str], Figure] = {}
    for figure in found:
        key = figure.method, figure.benchmark
        if key not in best or _rank(figure) < _rank(best[key]):
            best[key] = figure
    return list(best.values())


def _rank(figure: Figure) -> tuple[int, bool]:
    name = figure.method.partition(" ")[0].lower()
    return KINDS.index(figure.kind), name not in figure.source.lower()


def model_of(name: str) -> str | None:
    """The published model that a checkpoint's name means: `llava-1.5-7b-hf` is LLaVA-1.5-7B."""
    plain = _plain(Path(name).name).removesuffix("hf")
    return next((f.model for f in figures() if _plain(f.model) == plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def at(
    model: str,
    budget: int,
    printed: Literal["value", "relative"],
    wanted: Collection[tuple[str, str]] | None = None,
) -> list[Figure]:
    """The preferred figures of a model at a budget that have a `printed`; unpruned left out.

    With `wanted` those of these benchmarks and metrics only.
    """
    found = [f for f in figures() if f.model == model and f.budget == str(budget)]
    known = [f for f in found if getattr(f, printed) is not None]
    if wanted is not None:
        known = [f for f in known if (f.benchmark, f.metric) in wanted]
    return preferred(f for f in known if f.method != UNPRUNED)


def rows_of(found: Iterable[Figure]) -> dict[tuple[str, str, str], dict[str, Figure]]:
    """By method, source and kind: its figures by benchmark; methods in order of their names."""
    rows: dict[tuple[str, str, str], dict[str, Figure]] = {}
    for figure in sorted(found, key=lambda f: (f.method.lower(), _rank(f), f.source)):
        key = figure.method, figure.source, figure.kind
        rows.setdefault(key, {})[figure.benchmark] = figure
    return rows


def survey(model: str, budget: int) -> Table:
    """What is printed for a model at a budget, a row a method and source.

    Raises BadInput for a model or budget of which nothing is printed.
    """
    known = dict.fromkeys(figure.model for figure in figures())
    name = model_of(model)
    if name is None:
        raise unknown("published model", model, known)
    rows = rows_of(at(name, budget, "relative"))
    if not rows:
        budgets = sorted(
            {int(f.budget) for f in figures() if f.model == name and f.budget.isdigit()}
        )
        raise BadInput(
            f"nothing is published for {name} at {budget} tokens; there are "
            f"{', '.join(map(str, budgets))}"
        )
    benchmarks = _shown(rows.values())
    sources = Footnotes(numbered=True)
    columns = (
        Column("Method", ("method", "source", "kind"), lambda p: [p[0] + sources.mark(p[1])], True),
        Column("Kind", ("source_kind",), left=True),
        *(
            Column(b, (f"{b}_percent", f"{b}_value"), lambda p: [p[0]], group="% of unpruned")
            for b in benchmarks
        ),
    )
    cells = tuple(_cells(key, held, benchmarks) for key, held in rows.items())
    begins = _new_methods(list(rows))
    title = f"Published: {name} at {budget} tokens"
    table = Table(title, columns, cells, begins, apart=frozenset(range(len(cells))))
    table.texts()  # hands out the footnotes in reading order
    return Table(title, columns, cells, begins, (TRAPS, *sources.lines()), apart=table.apart)


def _shown(rows: Iterable[dict[str, Figure]]) -> list[str]:
    """Benchmarks from the most printed to the least, the average last."""
    counts: dict[str, int] = {}
    for held in rows:
        for benchmark in held:
            counts[benchmark] = counts.get(benchmark, 0) + 1
    counts.pop(AVERAGE, None)
    return [*sorted(counts, key=lambda name: (-counts[name], name)), AVERAGE]


def _cells(
    key: tuple[str, str, str], held: dict[str, Figure], benchmarks: Sequence[str]
) -> tuple[Parts, ...]:
    found = [held.get(benchmark) for benchmark in benchmarks]
    return (key, (key[2],), *(_percent(figure) if figure else () for figure in found))


def _percent(figure: Figure) -> Parts:
    value = "" if figure.value is None else f"{figure.value:g}"
    return number(figure.relative if figure.relative is not None else float("nan")), value


def _new_methods(keys: Sequence[tuple[str, str, str]]) -> frozenset[int]:
    return frozenset(i for i, key in enumerate(keys) if i == 0 or key[0] != keys[i - 1][0])
