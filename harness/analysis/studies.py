"""What a report shows of one configuration, computed once from its whole records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.analysis.blocks import AVERAGE, RELATIVE, Block, blocks_of, configuration_names
from harness.analysis.rows import Row
from harness.analysis.speed import rounds
from harness.analysis.stats import NOTHING, Estimate, mean_interval, median_spread, round_ratio
from harness.records.cell import Asked, Cell
from harness.records.groups import configurations
from harness.records.identity import SAME_MODEL
from harness.records.phases import ONCE
from harness.records.record import AccuracyRecord, EfficiencyRecord, Record
from harness.records.timed import TimedCell


@dataclass(frozen=True)
class Point:
    """A method at a budget. `scores` in percent, by benchmark, `AVERAGE` and `RELATIVE`."""

    asked: Asked
    label: str
    tokens: float
    scores: Mapping[str, Estimate]


@dataclass(frozen=True)
class Timing:
    """A cell of an efficiency run; `phases`: median seconds, the decode of all tokens as one.

    `ratio`: of the time to the first token to unpruned's; `speedup`: of the prefill with the
    selection, unpruned's time over this one's. Both of the same rounds.
    """

    asked: Asked
    label: str
    first_token_seconds: Estimate
    ratio: Estimate
    speedup: Estimate
    phases: Mapping[str, float]

    @property
    def selection_share(self) -> float:
        """Of the time to the first token."""
        return self.phases["selection"] / self.first_token_seconds.value


@dataclass(frozen=True)
class Study:
    """One configuration: `records` are whole, `run` is the newest efficiency record of its kind.

    `layers`: visual tokens that entered each decoder layer, mean over questions.
    """

    name: str
    records: Sequence[AccuracyRecord]
    run: EfficiencyRecord | None
    blocks: Sequence[Block]
    points: Sequence[Point]
    timings: Sequence[Timing]
    layers: Mapping[Asked, Sequence[float]]

    @property
    def overall(self) -> str:
        """What sums up the benchmarks: `AVERAGE`, or `RELATIVE` where their units differ."""
        return AVERAGE if any(AVERAGE in point.scores for point in self.points) else RELATIVE

    @property
    def unpruned(self) -> Point | None:
        """What all others are compared with."""
        return next((point for point in self.points if point.asked.is_unpruned), None)

    @property
    def budgets(self) -> list[str]:
        """As they are labelled, from large to small."""
        found = {point.asked.amount: point.asked.budget_label for point in self.points}
        return [found[key] for key in sorted(found, key=lambda k: (-(k[0] or 0), k[1])) if key[0]]

    @property
    def labels(self) -> dict[Asked, str]:
        """How each series is called, in a fixed order; unpruned is not among them."""
        found: dict[Asked, str] = {}
        every: list[Point | Timing] = [*self.points, *self.timings]
        for shown in every:
            if shown.asked.budget:
                found.setdefault(shown.asked.series, series_label(shown))
        return dict(sorted(found.items(), key=lambda pair: (_order(pair[0].method), pair[0][1:])))


def series_label(shown: Point | Timing) -> str:
    """As on its line of a figure: budgets in FLOPs are on another than those in tokens."""
    return shown.label + (" in FLOPs" if shown.asked.in_flops else "")


def _order(method: str) -> tuple[object, ...]:
    return Cell.parse(f"{method}@1").order


def studies(records: Sequence[Record]) -> list[Study]:
    """One for each configuration that has accuracy records."""
    groups, runs = configurations(records)
    pairs = zip(groups, configuration_names(groups), strict=True)
    return [_study(group, name, runs) for group, name in pairs]


def _study(records: Sequence[AccuracyRecord], name: str, runs: Sequence[EfficiencyRecord]) -> Study:
    blocks = blocks_of(records, "", fidelity=False)
    run = next((run for run in reversed(runs) if is_timing_of(run, records[0])), None)
    points = [
        _point(line.row, {c: mean_interval(o) for c, o in line.values.items() if o})
        for block in blocks
        for line in block.lines
        if line.values
    ]
    return Study(name, records, run, blocks, points, _timings(run), _layers(records))


def is_timing_of(run: EfficiencyRecord, record: AccuracyRecord) -> bool:
    """Whether its times are those of the model that answered."""
    return not any(run.identity.differing(record.identity, SAME_MODEL))


def _point(row: Row, scores: dict[str, Estimate]) -> Point:
    return Point(row.asked, row.label, row.tokens, scores)


def _timings(run: EfficiencyRecord | None) -> list[Timing]:
    if run is None:
        return []
    timed = [cell for cell in run.cells if cell.is_ok]
    ordered = sorted(timed, key=lambda timed: timed.cell.order)
    return [_timing(cell, run.unpruned) for cell in ordered]


def _timing(timed: TimedCell, whole: TimedCell | None) -> Timing:
    first, prefill = _first_token(timed), rounds(timed, "prefill")
    decode = [sum(steps) for steps in timed.raw("decode")]
    phases = {phase: median_spread(timed.rounds(phase)).value for phase in ONCE}
    return Timing(
        timed.cell.asked,
        timed.label,
        median_spread(first),
        round_ratio(first, _first_token(whole)) if whole else NOTHING,
        round_ratio(rounds(whole, "prefill"), prefill) if whole else NOTHING,
        {**phases, "decode": median_spread(decode).value},
    )


def _first_token(timed: TimedCell) -> list[float]:
    """Seconds up to the first token, of each round."""
    return [sum(phases) for phases in zip(*map(timed.rounds, ONCE), strict=True)]


def _layers(records: Sequence[AccuracyRecord]) -> dict[Asked, list[float]]:
    entering: dict[Asked, list[Sequence[int]]] = {}
    for record in records:
        if record.is_ok:
            rows = entering.setdefault(record.cell.asked, [])
            rows += [row.entering for row in record.ledger for _ in range(row.samples)]
    return {
        asked: [fmean(layer) for layer in zip(*rows, strict=True)]
        for asked, rows in entering.items()
        if rows
    }
