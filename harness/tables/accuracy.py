"""The accuracy table of one configuration: a row a method and budget, over all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

from harness.analysis.outcomes import Outcomes, relative
from harness.analysis.rows import Row, flops_share, rows_of, unpruned_of
from harness.analysis.stats import mean_interval, mean_spread, paired_difference, task_means
from harness.analysis.task_scores import Column as Shown
from harness.analysis.task_scores import columns_of, in_one_unit
from harness.records.identity import Identity
from harness.records.record import AccuracyRecord
from harness.tables import numbers
from harness.tables.brief import larger_half, unsure
from harness.tables.reasons import gathered
from harness.tables.table import Brief, Column, Parts, Table, separate

HOW_TO_READ = (
    "Tokens: visual tokens that entered a decoder layer, counted; mean over layers and questions. "
    "Mean: of the tasks, in brackets its 95 % interval over images; ± is the standard deviation "
    "over seeds. Difference: to unpruned on the same questions, in brackets all that a sign-flip "
    "test over images does not reject; n.s., not significant: 0 is among them, p ≥ 0.05, for each "
    "row by itself. FLOPs: decoder layers, selections and one row of the head, from the counted "
    "tokens."
)
LEGEND = (
    "Tokens: visual tokens entering a decoder layer, counted. ±: the farther end of the 95 % "
    "interval. ≈: no significant difference (sign flips by image, p ≥ 0.05). FLOPs: the decoder's "
    "prefill and the selections.",
)


def accuracy_table(records: Sequence[AccuracyRecord]) -> Table:
    """Unpruned first, then budget by budget; a row that broke its promise has no numbers."""
    rows = rows_of(records)
    shown = columns_of(records)
    tasks = list(dict.fromkeys(column.task for column in shown))
    upper = unpruned_of(rows)
    flops = numbers.flops_unit(sum(row.flops.values()) / len(tasks) for row in rows)
    cache = numbers.bytes_unit(sum(row.cache_bytes.values()) / len(tasks) for row in rows)
    whole = None if in_one_unit(shown) else task_means(upper.outcomes) if upper else {}
    cells = [_cells(row, shown, upper, whole, flops[0], cache[0]) for row in rows]
    columns = _columns(shown, whole is not None, flops[1], cache[1])
    begins = frozenset(
        i for i, row in enumerate(rows) if row.asked.amount != rows[i - 1].asked.amount
    )
    items = _items(rows, tasks, records[0].identity)
    source = f"{items} · {numbers.origin(records)}"
    failed = any(row.failed for row in rows)
    asked = [row.asked for row in rows]
    blocks = {i: f"{asked[i].tokens_label} a layer" for i in begins if asked[i].budget}
    noted = gathered((row.label, row.asked.tokens_label, row.note) for row in rows if row.note)
    return Table(
        "Accuracy",
        columns,
        tuple(cells),
        begins,
        (HOW_TO_READ, source),
        failed,
        about=" · ".join(filter(None, (records[0].identity.model, items, numbers.frames(records)))),
        legend=(*LEGEND, *_unequal(rows), *noted),
        blocks=blocks,
    )


def _unequal(rows: Sequence[Row]) -> list[str]:
    """What entered a layer of the samples with the fewest tokens and with the most."""
    named = [
        f"{', '.join(filter(None, (row.label, row.asked.tokens_label)))} {'–'.join(_range(row))}"
        for row in rows
        if row.unequal
    ]
    return [f"Tokens by sample: {'; '.join(named)}."] if named else []


def _range(row: Row) -> Parts:
    """Empty where samples hardly differ."""
    return tuple(map(numbers.number, row.unequal or ()))


def _columns(
    shown: Sequence[Shown], relative_mean: bool, flops: str, cache: str
) -> tuple[Column, ...]:
    mean = "Mean, % of unpruned" if relative_mean else "Mean"
    return (
        Column("Method", ("method",), left=True, briefs=(Brief(),)),
        Column("Budget", ("budget",)),
        Column("Tokens", ("counted_tokens",), briefs=(Brief("Tokens counted"),)),
        Column("By sample", ("tokens_least", "tokens_most"), _range_lines, optional=True),
        *(
            Column(column.title, (column.name,), briefs=(Brief(drops=1 + place),))
            for place, column in enumerate(shown)
        ),
        Column(
            mean,
            ("mean", "mean_low", "mean_high", "seed_sd"),
            mean_lines,
            briefs=(Brief(text=lambda parts: parts[0] + larger_half(*parts[:3])),),
        ),
        Column(
            "Difference",
            ("diff", "diff_low", "diff_high", "p", "verdict"),
            difference_lines,
            briefs=(Brief("Against unpruned", _diff_text),),
        ),
        Column(
            f"Prefill {flops}",
            (f"prefill_{flops.lower()}", "prefill_percent"),
            _flops_lines,
            briefs=(Brief("Prefill FLOPs", lambda parts: f"{parts[1]} %", drops=len(shown) + 1),),
        ),
        Column(f"KV cache {cache}", (f"kv_cache_{cache.lower()}",)),
        Column("Note", ("note",), left=True, optional=True),
    )


def _cells(
    row: Row,
    shown: Sequence[Shown],
    upper: Row | None,
    whole: Mapping[str, float] | None,
    flops_unit: float,
    cache_unit: float,
) -> tuple[Parts, ...]:
    """`whole`: unpruned's scores, where tasks of several units are averaged relative to these."""
    means = task_means({**row.outcomes, **row.others})
    return (
        (row.label,),
        (row.asked.budget_label,),
        (numbers.number(row.tokens),),
        _range(row),
        *((numbers.number(means.get(column.name, nan)),) for column in shown),
        mean(row, whole),
        difference(row, upper, whole),
        _flops(row, upper, flops_unit),
        (numbers.three_digits(_average(row.cache_bytes) / cache_unit),),
        (row.note,),
    )


def _averaged(row: Row, whole: Mapping[str, float] | None) -> Outcomes:
    return row.outcomes if whole is None else relative(row.outcomes, whole)


def mean(row: Row, whole: Mapping[str, float] | None) -> Parts:
    """Only over all tasks: a mean over some of them compares with nothing."""
    if not row.complete or not _averaged(row, whole):
        return ()
    spread = mean_spread(row.seed_means if whole is None else ())
    return (
        *numbers.estimate(mean_interval(_averaged(row, whole))),
        numbers.number(spread.high - spread.value),
    )


def _range_lines(parts: Parts) -> list[str]:
    return ["–".join(parts)]


def mean_lines(parts: Parts) -> list[str]:
    value, low, high, spread = parts
    over_seeds = f" ± {spread}" if spread else ""
    return separate((value + over_seeds, f"[{low}, {high}]" if low else ""))


def difference(row: Row, upper: Row | None, whole: Mapping[str, float] | None) -> Parts:
    """To unpruned on the same questions: value, bounds, p and verdict; nothing as in `mean`."""
    if upper is None or row is upper or not row.complete or not _averaged(row, whole):
        return ()
    found = paired_difference(_averaged(row, whole), _averaged(upper, whole))
    verdict = "significant" if found.significant else "n.s."
    return (*numbers.estimate(found, sign=True), numbers.number(found.p, 4), verdict)


def difference_lines(parts: Parts) -> list[str]:
    value, low, high, _, verdict = parts
    remark = " n.s." if verdict == "n.s." else ""
    return separate((value + remark, f"[{low}, {high}]" if low else ""))


def _diff_text(parts: Parts) -> str:
    value, low, high, _, verdict = parts
    return unsure(value + larger_half(value, low, high), verdict == "n.s.")


def _flops(row: Row, upper: Row | None, unit: float) -> Parts:
    """With the share of unpruned, over the tasks that the row has."""
    flops = _average(row.flops)
    share = flops_share(row, upper) if upper else nan
    return numbers.three_digits(flops / unit), numbers.number(100 * share, 0)


def _flops_lines(parts: Parts) -> list[str]:
    value, percent = parts
    return separate((value, f"({percent} %)" if percent else ""))


def _average(by_task: dict[str, float]) -> float:
    return sum(by_task.values()) / len(by_task) if by_task else nan


def _items(rows: Sequence[Row], tasks: Sequence[str], identity: Identity) -> str:
    counts = {task: max(row.questions.get(task, 0) for row in rows) for task in tasks}
    return numbers.questions(counts, identity)
