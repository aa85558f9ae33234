"""The table of a paper: a block a budget, a row a method, a column a benchmark.

What is bold is tested, not read off; a number that is not there is a dash with a footnote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan

from harness.analysis.blocks import AVERAGE, RELATIVE, Block, Line, blocks_of, configuration_names
from harness.analysis.emphasis import Emphasis, emphasised
from harness.analysis.metrics import METRICS, how_to_read
from harness.analysis.outcomes import Outcomes
from harness.analysis.stats import Estimate, mean_interval, mean_of
from harness.analysis.task_scores import Column as Shown
from harness.analysis.task_scores import columns_of
from harness.records.record import AccuracyRecord
from harness.tables import numbers
from harness.tables.choices import Intervals
from harness.tables.footnotes import Footnotes
from harness.tables.published_rows import published_rows
from harness.tables.table import MISSING, Brief, Column, Parts, Table

HOW_TO_READ = (
    "Tokens: visual tokens that entered a decoder layer, counted; mean over layers and questions. "
    "Average: of the benchmarks. Relative: the mean of the benchmarks' percentages of unpruned."
)
BOLD = {
    Emphasis.NONE: "",
    Emphasis.BEST: "Bold: the largest of the block, be the difference significant or not.",
    Emphasis.SIGNIFICANT: (
        "Bold: the best of the block and all that is not significantly worse on the same "
        "questions (sign-flip test over images, Holm over all comparisons of the block, p < 0.05)."
    ),
}
NOISE = (
    "† not significantly better than Random at the same budget (same test, Holm over the block)."
)


PUBLISHED = (
    "In italics: published figures, not measured here; measured − published is the mean over the "
    "benchmarks that have both."
)
NONE_PUBLISHED = "No published figures are known for these models, benchmarks and budgets."
INTERVALS = {
    Intervals.NONE: "",
    Intervals.PLUSMINUS: "±: half of the 95 % interval over images.",
    Intervals.SMALL: "In brackets: 95 % intervals over images.",
}


@dataclass(frozen=True)
class Style:
    """What the options of `harness table` choose."""

    emphasis: Emphasis = Emphasis.SIGNIFICANT
    intervals: Intervals = Intervals.NONE
    fidelity: bool = False
    published: bool = False


def paper_table(configurations: Sequence[Sequence[AccuracyRecord]], style: Style) -> Table:
    """All configurations in one table; with `style.fidelity` the records must be whole."""
    tasks = _tasks(configurations)
    names = configuration_names(configurations)
    blocks = [
        block
        for records, name in zip(configurations, names, strict=True)
        for block in blocks_of(records, name if len(names) > 1 else "", style.fidelity)
    ]
    holes = Footnotes()
    columns = _columns(tasks, style, holes)
    sources = Footnotes(numbered=True)
    rows, bold, headings, apart = _body(blocks, tasks, style, sources)
    texts = (HOW_TO_READ, BOLD[style.emphasis], INTERVALS[style.intervals])
    noise = any(line.noise for block in blocks for line in block.lines)
    table = Table(
        "Accuracy at matched token budgets",
        columns,
        rows,
        frozenset(headings),
        headings=headings,
        bold=frozenset(bold),
        apart=frozenset(apart),
        failed=any(line.row.failed for block in blocks for line in block.lines),
    )
    table.texts()  # hands out the footnotes in reading order
    notes = (
        " ".join(filter(None, texts)),
        *([how_to_read()] if style.fidelity else []),
        *([NOISE] if noise else []),
        *([PUBLISHED] if apart else [NONE_PUBLISHED] if style.published else []),
        *sources.lines(),
        *holes.lines(),
        *_origins(configurations, names),
    )
    return replace(table, notes=notes)


def _tasks(configurations: Sequence[Sequence[AccuracyRecord]]) -> list[Shown]:
    """The columns of all configurations' tasks, one of each name."""
    found = {c.name: c for records in configurations for c in columns_of(records)}
    return sorted(found.values(), key=lambda column: (column.task, not column.first))


def _columns(tasks: Sequence[Shown], style: Style, holes: Footnotes) -> tuple[Column, ...]:
    def lines(parts: Parts) -> list[str]:
        value, low, high, _, missing = parts
        if not value:
            return [MISSING + (holes.mark(missing) if missing else "")]
        if style.intervals is Intervals.SMALL and low:
            return [value, f"[{low}, {high}]"]
        if style.intervals is Intervals.PLUSMINUS and low:
            decimals = len(value.partition(".")[2])
            return [f"{value} ± {numbers.number((float(high) - float(low)) / 2, decimals)}"]
        return [value]

    def number(title: str, name: str, group: str = "", drops: int = 0) -> Column:
        parts = (name, f"{name}_low", f"{name}_high", f"{name}_bold", f"{name}_missing")
        form = Brief(text=lambda parts: " ".join(lines(parts)), drops=drops)
        return Column(title, parts, lines, group=group, briefs=(form,))

    close = METRICS.values() if style.fidelity else ()
    return (
        Column(
            "Method",
            ("model", "budget", "method", "within_noise_of_random"),
            _label,
            left=True,
            briefs=(Brief(text=lambda parts: _label(parts)[0]),),
        ),
        Column("Venue", ("venue",), left=True, optional=True, briefs=(Brief(drops=99),)),
        Column("Tokens", ("counted_tokens",), briefs=(Brief("Tokens counted"),)),
        *(number(t.title, t.name, "Benchmark", 1 + i) for i, t in enumerate(tasks)),
        number(AVERAGE, "average", "Over benchmarks"),
        number("Relative %", "relative_percent", "Over benchmarks"),
        *(number(metric.heading, metric.name, "Fidelity to unpruned") for metric in close),
        Column("Measured − published", ("measured_minus_published",), optional=True),
    )


def _label(parts: Parts) -> list[str]:
    *_, method, noise = parts
    return [method + ("†" if noise else "")]


def _body(
    blocks: Sequence[Block], tasks: Sequence[Shown], style: Style, sources: Footnotes
) -> tuple[tuple[tuple[Parts, ...], ...], set[tuple[int, int]], dict[int, str], set[int]]:
    """Rows, the places that are bold, the headings, and the rows that are published."""
    shown = [*(task.name for task in tasks), AVERAGE, RELATIVE]
    rows: list[tuple[Parts, ...]] = []
    bold: set[tuple[int, int]] = set()
    headings = {}
    apart: set[int] = set()
    for block in blocks:
        headings[len(rows)] = block.heading
        compared = block.lines[0].row.asked.budget is not None
        best = (
            emphasised([line.values for line in block.lines], style.emphasis) if compared else set()
        )
        bold |= {(len(rows) + i, 3 + shown.index(column)) for i, column in best}
        rows += [tuple(_cells(block, i, shown, style, best)) for i in range(len(block.lines))]
        if style.published:
            printed = list(published_rows(block, tasks, 2 + len(METRICS) * style.fidelity, sources))
            apart |= set(range(len(rows), len(rows) + len(printed)))
            rows += printed
    return tuple(rows), bold, headings, apart


def _cells(
    block: Block, index: int, shown: Sequence[str], style: Style, best: set[tuple[int, str]]
) -> Iterator[Parts]:
    line = block.lines[index]
    row = line.row
    yield block.model, row.asked.budget_label, row.label, "yes" if line.noise else ""
    yield (row.venue,)
    yield (numbers.number(row.tokens),)
    for column in shown:
        yield _number(
            line.values.get(column, {}), style, (index, column) in best, _why(line, column)
        )
    for metric in METRICS.values() if style.fidelity else ():
        of = line.fidelity[metric.name] if line.fidelity else {}
        missing = "" if row.asked.budget is None else "nothing of unpruned to compare with"
        yield _number(of, style, False, missing, metric.decimals)
    yield ()


def _why(line: Line, column: str) -> str:
    """Why a line has no number in the column; only looked at where that is so."""
    if column not in (AVERAGE, RELATIVE) or not line.row.outcomes:
        return line.missing
    if not line.row.complete:
        return "not over all benchmarks"
    return "no unpruned scores above 0" if column == RELATIVE else "benchmarks of several units"


def _number(outcomes: Outcomes, style: Style, bold: bool, missing: str, decimals: int = 1) -> Parts:
    if not outcomes:
        return "", "", "", "", missing
    if style.intervals is Intervals.NONE:
        estimate = Estimate(mean_of(outcomes), nan, nan)
    else:
        estimate = mean_interval(outcomes)
    return (*numbers.estimate(estimate, decimals), "yes" if bold else "", "")


def _origins(configurations: Sequence[Sequence[AccuracyRecord]], names: Sequence[str]) -> list[str]:
    lines = []
    tasks = [{record.task for record in records} for records in configurations]
    for records, name, own in zip(configurations, names, tasks, strict=True):
        items = {}
        for record in records:
            if record.is_ok:
                items[record.task] = len(record.samples)
        over = f"; averages over {', '.join(sorted(own))}" if own != set().union(*tasks) else ""
        head = f"{name}: " if len(names) > 1 else ""
        counts = numbers.questions(dict(sorted(items.items())), records[0].identity)
        lines.append(f"{head}{counts}{over} · {numbers.origin(records)}")
    return lines
