"""The table of requests a second: where each cell of a run stops answering more of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.stats import median_spread, round_ratio
from harness.records.ledger import mean_entering
from harness.records.record import EfficiencyRecord
from harness.records.saturation import AtBatch, Saturation
from harness.records.timed import TimedCell
from harness.tables import numbers
from harness.tables.brief import larger_half, unsure
from harness.tables.efficiency import by_budget, efficiency_table
from harness.tables.efficiency_notes import FAILED, about, why_empty
from harness.tables.table import MISSING, Brief, Column, Parts, Table, separate

LEGEND = (
    "Saturated at: the batch of which twice as many gave less than 5 % more requests a second, or "
    "the largest tried. Requests/s: there, of {tokens} new tokens each, median ± the farther "
    "quartile; × unpruned: in the same round, each at its own batch, ± the farther end of the "
    "95 % interval, ≈ where that holds 1. Batch 1: of the same run."
)
WHY = {
    "memory": "Memory: {gib:g} GiB, weights included, hold no larger batch.",
    "time": "Minutes: there was no time for a larger batch.",
}
ENDED = {"growth": "no growth", "memory": "memory", "time": "minutes"}


def tables_of_run(record: EfficiencyRecord) -> list[Table]:
    """Times and memory, then requests a second where the run looked for their limit."""
    sought = [cell for cell in record.cells if cell.saturation]
    return [efficiency_table(record), *([saturation_table(record)] if sought else [])]


def saturation_table(record: EfficiencyRecord) -> Table:
    """Rows in the order of the efficiency table."""
    cells = sorted(record.cells, key=lambda timed: timed.cell.order)
    begins, blocks = by_budget(cells)
    run = _Run(record.identity.new_tokens, _saturated(record.unpruned))
    legend = _legend(run.new_tokens, [cell.saturation for cell in cells if cell.saturation])
    ends = [_ended(cell) for cell in cells]
    return Table(
        "Saturation",
        _COLUMNS,
        tuple(map(run.row, cells)),
        begins,
        (legend, numbers.origin([record])),
        any(end.startswith(FAILED) for end in ends),
        about=about(record),
        legend=(legend,),
        blocks=blocks,
    )


def _legend(new_tokens: int, found: Sequence[Saturation]) -> str:
    """How to read it, with what the words say that it has for why cells ended."""
    ends = {each.ended for each in found}
    why = [text.format(gib=found[0].gib) for word, text in WHY.items() if word in ends]
    return " ".join([LEGEND.format(tokens=new_tokens), *why])


@dataclass(frozen=True)
class _Run:
    """What the rows share; `upper` is unpruned at its own batch."""

    new_tokens: int
    upper: AtBatch | None

    def row(self, cell: TimedCell) -> tuple[Parts, ...]:
        found = cell.saturation
        return (
            (cell.label,),
            (cell.cell.asked.budget_label,),
            (numbers.number(mean_entering(cell.ledger)),) if cell.is_ok else (),
            _latency(found.single) if found else (),
            *self._at(_saturated(cell)),
            _by_batch(found) if found else (),
            (_ended(cell),),
        )

    def _at(self, found: AtBatch | None) -> tuple[Parts, Parts, Parts, Parts]:
        """The batch, requests and new tokens a second, and requests over unpruned's."""
        if found is None:
            return (), (), (), ()
        requests = _spread(found.requests)
        tokens = _spread([self.new_tokens * rate for rate in found.requests])
        return (str(found.batch),), requests, tokens, self._ratio(found)

    def _ratio(self, found: AtBatch) -> Parts:
        if self.upper is None:
            return ()
        if found is self.upper:
            return "1", "", ""
        return numbers.estimate(round_ratio(found.requests, self.upper.requests), decimals=2)


def _saturated(cell: TimedCell | None) -> AtBatch | None:
    return cell.saturation.saturated if cell and cell.saturation else None


def _latency(single: AtBatch | None) -> Parts:
    return _spread([1000 * seconds for seconds in single.seconds]) if single else ()


def _spread(values: list[float]) -> Parts:
    """Median and quartiles."""
    spread = median_spread(values)
    return tuple(map(numbers.three_digits, (spread.value, spread.low, spread.high)))


def _by_batch(found: Saturation) -> Parts:
    """`1: 3.21, 2: 5.40`: median requests a second."""
    medians = ((tried.batch, _spread(tried.requests)[0]) for tried in found.batches)
    return (", ".join(f"{batch}: {rate}" for batch, rate in medians),)


def _ended(cell: TimedCell) -> str:
    if not cell.is_ok:
        return why_empty(cell)
    if cell.saturation is None:
        return MISSING
    found = cell.saturation
    return ENDED.get(found.ended, f"{FAILED}: {found.reason}")


def _lines(parts: Parts) -> list[str]:
    value, low, high = parts
    return [f"{value} ({low}–{high})"]


def _ratio_lines(parts: Parts) -> list[str]:
    value, low, high = parts
    return separate((f"×{value}", f"[{low}, {high}]" if low else ""))


def _half(parts: Parts) -> str:
    return parts[0] + larger_half(*parts)


def _ratio_half(parts: Parts) -> str:
    _, low, high = parts
    return unsure(_half(parts), bool(low) and float(low) <= 1 <= float(high))


def _spread_names(name: str) -> Parts:
    return name, f"{name}_q1", f"{name}_q3"


_COLUMNS = (
    Column("Method", ("method",), left=True, briefs=(Brief(),)),
    Column("Budget", ("budget",)),
    Column("Tokens", ("counted_tokens",), briefs=(Brief("Tokens counted"),)),
    Column(
        "Batch 1 ms",
        _spread_names("batch_1_ms"),
        _lines,
        briefs=(Brief(text=lambda parts: parts[0]),),
    ),
    Column("Saturated at", ("saturated_batch",), briefs=(Brief(),)),
    Column("Requests/s", _spread_names("requests_per_second"), _lines, briefs=(Brief(text=_half),)),
    Column("New tokens/s", _spread_names("new_tokens_per_second"), _lines),
    Column(
        "× unpruned",
        tuple(f"requests_{part}" for part in ("ratio", "ratio_low", "ratio_high")),
        _ratio_lines,
        briefs=(Brief(text=_ratio_half),),
    ),
    Column("Requests/s by batch", ("requests_per_second_by_batch",), optional=True),
    Column("Ended by", ("ended_by",), left=True, briefs=(Brief(),)),
)
