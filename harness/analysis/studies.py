"""What a report shows of one configuration, computed once from its whole records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Any

from harness.analysis.blocks import AVERAGE, RELATIVE, Block, blocks_of, configuration_names
from harness.analysis.rows import Row
from harness.analysis.stats import NOTHING, Estimate, mean_interval, median_spread, round_ratio
from harness.records.cell import Cell
from harness.records.file import Record
from harness.records.frames import rounds
from harness.records.groups import configurations

TIMED = ("vision_tower", "projector", "selection", "prefill")
"""Phases up to the first token."""
_SAME = ("model_digest", "dtype", "attention")


Key = tuple[str, int | None, bool]
"""What is equal in a point and its timing: method, budget, whether that is one of FLOPs."""


@dataclass(frozen=True)
class Point:
    """A method at a budget; None is unpruned. `scores` in percent, by benchmark, `AVERAGE` and
    `RELATIVE`; `matched`: the budget is one of FLOPs.
    """

    method: str
    label: str
    budget: int | None
    tokens: float
    scores: Mapping[str, Estimate]
    matched: bool

    @property
    def key(self) -> Key:
        return self.method, self.budget, self.matched


@dataclass(frozen=True)
class Timing:
    """A cell of an efficiency run; `phases`: median seconds, the decode of all tokens as one.

    `ratio`: of the time to the first token to unpruned's; `speedup`: of the prefill with the
    selection, unpruned's time over this one's. Both of the same rounds.
    """

    method: str
    label: str
    budget: int | None
    first_token_seconds: Estimate
    ratio: Estimate
    speedup: Estimate
    phases: Mapping[str, float]
    matched: bool

    @property
    def key(self) -> Key:
        return self.method, self.budget, self.matched


@dataclass(frozen=True)
class Study:
    """One configuration: `records` are whole, `run` is the newest efficiency record of its kind.

    `layers`: visual tokens that entered each decoder layer, mean over questions, by method and
    budget.
    """

    name: str
    records: Sequence[Record]
    run: Record | None
    blocks: Sequence[Block]
    points: Sequence[Point]
    timings: Sequence[Timing]
    layers: Mapping[tuple[str, int | None], Sequence[float]]

    @property
    def overall(self) -> str:
        """What sums up the benchmarks: `AVERAGE`, or `RELATIVE` where their units differ."""
        return AVERAGE if any(AVERAGE in point.scores for point in self.points) else RELATIVE

    @property
    def unpruned(self) -> Point | None:
        """Where it was measured on all benchmarks."""
        whole = (p for p in self.points if p.budget is None and self.overall in p.scores)
        return next(whole, None)

    @property
    def labels(self) -> dict[str, str]:
        """How each method is called, in a fixed order; unpruned is not among them."""
        found = {point.method: point.label for point in self.points if point.budget is not None}
        found |= {t.method: t.label for t in self.timings if t.budget and t.method not in found}
        return dict(sorted(found.items(), key=lambda pair: Cell.parse(f"{pair[0]}@1").order))


def studies(records: Sequence[Record]) -> list[Study]:
    """One for each configuration that has accuracy records."""
    groups, runs = configurations(records)
    pairs = zip(groups, configuration_names(groups), strict=True)
    return [_study(group, name, runs) for group, name in pairs]


def _study(records: Sequence[Record], name: str, runs: Sequence[Record]) -> Study:
    blocks = blocks_of(records, "", fidelity=False)
    identity = records[0]["identity"]
    run = next(
        (r for r in reversed(runs) if all(r["identity"][k] == identity[k] for k in _SAME)), None
    )
    points = [
        _point(line.row, {c: mean_interval(o) for c, o in line.values.items() if o})
        for block in blocks
        for line in block.lines
        if line.values
    ]
    return Study(name, records, run, blocks, points, _timings(run), _layers(records))


def _point(row: Row, scores: dict[str, Estimate]) -> Point:
    return Point(row.method, row.label, row.budget, row.tokens, scores, row.matched)


def flops_share(row: Row, upper: Row) -> float:
    """Of the prefill's FLOPs of unpruned, over the tasks that both have; NaN without one."""
    shared = row.flops.keys() & upper.flops.keys()
    whole = sum(upper.flops[task] for task in shared)
    return sum(row.flops[task] for task in shared) / whole if whole else nan


def _timings(run: Record | None) -> list[Timing]:
    if run is None:
        return []
    by_cell: dict[str, list[dict[str, Any]]] = {}
    for row in rounds(run):
        by_cell.setdefault(row["cell"], []).append(row)
    whole = by_cell.get("unpruned", [])
    cells = {cell["cell"]: cell for cell in run["cells"]}
    ordered = sorted(by_cell, key=lambda text: Cell.parse(text).order)
    return [_timing(text, by_cell[text], cells[text], whole) for text in ordered]


def _timing(
    text: str,
    rows: Sequence[Mapping[str, Any]],
    cell: Mapping[str, Any],
    whole: Sequence[Mapping[str, Any]],
) -> Timing:
    parsed = Cell.parse(text)
    first, prefill = [_first_token(row) for row in rows], [_prefill(row) for row in rows]
    label = " ".join([cell["method"]["label"], *(f"{k}={v}" for k, v in parsed.method.settings)])
    decode = [sum(steps) for steps in cell["raw_seconds"]["decode"]]
    phases = {p: median_spread([row[f"{p}_seconds"] for row in rows]).value for p in TIMED}
    return Timing(
        parsed.method.text,
        label,
        parsed.budget,
        median_spread(first),
        round_ratio(first, [_first_token(row) for row in whole]) if whole else NOTHING,
        round_ratio([_prefill(row) for row in whole], prefill) if whole else NOTHING,
        {**phases, "decode": median_spread(decode).value},
        parsed.matched is not None,
    )


def _first_token(row: Mapping[str, Any]) -> float:
    return sum(row[f"{phase}_seconds"] for phase in TIMED)


def _prefill(row: Mapping[str, Any]) -> float:
    return row["prefill_seconds"] + row["selection_seconds"]


def _layers(records: Sequence[Record]) -> dict[tuple[str, int | None], list[float]]:
    entering: dict[tuple[str, int | None], list[list[int]]] = {}
    for record in records:
        if record["status"] == "ok":
            cell = Cell.parse(record["cell"])
            rows = entering.setdefault((cell.method.text, cell.budget), [])
            rows += [row["entering"] for row in record["ledger"] for _ in range(row["samples"])]
    return {
        key: [fmean(layer) for layer in zip(*rows, strict=True)]
        for key, rows in entering.items()
        if rows
    }
