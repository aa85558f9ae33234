"""The verdict table, and the same findings as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from math import isnan
from typing import Any

from harness.analysis.stats import Estimate
from harness.regress.findings import Finding, Kind, Verdict
from harness.tables import numbers
from harness.tables.brief import larger_half
from harness.tables.table import Brief, Column, Parts, Table, separate

REGRESSION, NOTHING_COMPARABLE = 1, 3
HOW_TO_READ = (
    "Counts, costs, parameters, selections and answers must be equal. Accuracy: on the same "
    "questions, with the differences that a sign-flip test over images does not reject at 5 %, and "
    "its p after Holm's correction over the cells. "
    "×: time as a ratio to unpruned (or the reference) in the same run, the difference relative to "
    "before, with its 95 % interval over rounds, all of which must lie beyond what is allowed; "
    "the selection's is to unpruned's prefill, and is allowed ten times as much. Exact quantities "
    "of a cell with one verdict share a row."
)


LEGEND = (
    "Exact quantities must be equal; ×: ratio to unpruned in the same rounds; ±: the farther end "
    "of the 95 % interval of the difference."
)


def exit_status(findings: Sequence[Finding]) -> int:
    """0 no regression, 1 a regression, 3 nothing was comparable."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.WORSE in verdicts:
        return REGRESSION
    return 0 if verdicts - {Verdict.NOT_COMPARABLE} else NOTHING_COMPARABLE


def verdict_table(
    findings: Sequence[Finding], notes: Sequence[str], versions: Sequence[str] = ()
) -> Table:
    """A row a quantity of a cell, in the order given; the `versions` that changed come first."""
    columns = (
        Column("Cell", ("cell",), left=True, briefs=(Brief(),)),
        Column("Quantity", ("quantity",), left=True, briefs=(Brief(text=_counted),)),
        Column("Before", ("before",), briefs=(Brief(drops=2),)),
        Column("After", ("after",), briefs=(Brief(drops=1),)),
        Column(
            "Difference",
            ("diff", "diff_low", "diff_high", "p"),
            _difference_lines,
            briefs=(Brief(text=_difference_text),),
        ),
        Column("Verdict", ("verdict",), left=True, briefs=(Brief(),)),
        Column("Why", ("why",), left=True, optional=True),
    )
    rows: list[tuple[Parts, ...]] = []
    begins: set[int] = set()
    for _, of_cell in groupby(findings, key=lambda finding: finding.cell):
        begins.add(len(rows))
        rows += [_row(group) for group in _folded(list(of_cell))]
    failed = exit_status(findings) == REGRESSION
    notes = (summary(findings), HOW_TO_READ, *notes)
    changed = f"Versions changed: {', '.join(versions)}. " if versions else ""
    title = f"{changed}Regression gate: {headline(findings)}"
    legend = (notes[0], LEGEND, *_reasons(findings), *notes[2:-1])
    return Table(title, columns, tuple(rows), frozenset(begins), notes, failed, legend=legend)


def _reasons(findings: Sequence[Finding]) -> Iterator[str]:
    """Why a verdict is not `same`, with the cells of which that is so."""
    cells: dict[str, list[str]] = {}
    for finding in findings:
        if finding.why:
            cells.setdefault(f"{finding.verdict}, {finding.why}", []).append(finding.cell)
    for reason, found in cells.items():
        yield f"{', '.join(dict.fromkeys(found))}: {reason}"


def headline(findings: Sequence[Finding]) -> str:
    """`2 regressions` or `no regression`."""
    worse = sum(finding.verdict is Verdict.WORSE for finding in findings)
    return f"{worse or 'no'} regression{'s' * (worse > 1)}"


def summary(findings: Sequence[Finding]) -> str:
    """`2 regressions: fastv@64 tokens, fastv@64 KV rows; 3 not comparable`."""
    worse = [f"{f.cell} {f.quantity}" for f in findings if f.verdict is Verdict.WORSE]
    counts = {v: sum(f.verdict is v for f in findings) for v in Verdict}
    others = [f"{n} {v}" for v, n in counts.items() if n and v is not Verdict.WORSE]
    head = headline(findings).capitalize()
    return "; ".join([f"{head}: {', '.join(worse)}" if worse else head, *others])


def as_json(findings: Sequence[Finding], versions: Sequence[str] = (), **settings: Any) -> str:
    """All numbers unrounded, null where there is none; first the `versions` that changed."""
    status = exit_status(findings)
    content = {
        "versions_changed": list(versions),
        **settings,
        "exit_status": status,
        "findings": [_described(finding) for finding in findings],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _described(finding: Finding) -> dict[str, Any]:
    flat = asdict(finding)
    found = finding.difference
    del flat["difference"]
    flat |= {"difference": found.value, "low": found.low, "high": found.high}
    return {k: None if isinstance(v, float) and isnan(v) else v for k, v in flat.items()}


def _folded(findings: Sequence[Finding]) -> Iterator[list[Finding]]:
    """Exact findings that say the same are one row; every other is its own."""
    groups: dict[tuple, list[Finding]] = {}
    for index, finding in enumerate(findings):
        quiet = finding.kind is Kind.EXACT and finding.verdict is not Verdict.WORSE
        key = (finding.verdict, finding.why) if quiet else (index,)
        groups.setdefault(key, []).append(finding)
    yield from groups.values()


def _row(group: Sequence[Finding]) -> tuple[Parts, ...]:
    first = group[0]
    alone = len(group) == 1
    write = _writer(first)
    return (
        (first.cell,),
        (", ".join(finding.quantity for finding in group),),
        (write(first.before) if alone else "",),
        (write(first.after) if alone else "",),
        _difference(first) if alone else (),
        (str(first.verdict),),
        (first.why,),
    )


def _writer(finding: Finding) -> Callable[[float | str | None], str]:
    decimals = 3 if finding.kind is Kind.RATIO else 1

    def write(value: float | str | None) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        large = finding.quantity.endswith(("FLOPs", "bytes"))
        return f"{value:.0f}" if large else numbers.number(value, decimals)

    return write


def _difference(finding: Finding) -> Parts:
    estimate, (before, after) = finding.difference, (finding.before, finding.after)
    if finding.kind is Kind.RATIO:
        percent = Estimate(*(100 * v for v in (estimate.value, estimate.low, estimate.high)))
        return (*(f"{v} %" if v else "" for v in numbers.estimate(percent, sign=True)), "")
    if finding.kind is Kind.PAIRED:
        return (*numbers.estimate(estimate, sign=True), numbers.number(finding.p, 4))
    if isinstance(before, str) or isinstance(after, str) or before is None or after is None:
        return ()
    return (numbers.number(after - before, 2, sign=True), "", "", "")


def _difference_text(parts: Parts) -> str:
    value, low, high, _ = parts
    number, percent, _ = value.partition(" %")
    ends = (end.removesuffix(" %") for end in (low, high))
    return number + larger_half(number, *ends) + percent


def _counted(parts: Parts) -> str:
    """What one row says of many quantities is their number."""
    names = parts[0].split(", ")
    return parts[0] if len(names) == 1 else f"{len(names)} exact quantities"


def _difference_lines(parts: Parts) -> list[str]:
    value, low, high, p = parts
    interval = f"[{low}, {high}]" if low else ""
    return separate((value, interval, f"p {p}" if p else ""))
