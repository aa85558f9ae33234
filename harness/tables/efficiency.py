"""The efficiency table of one run of interleaved rounds: a row a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from statistics import median

from harness.analysis import speed
from harness.analysis.equal_frames import equal_frames
from harness.analysis.speed import rounds
from harness.analysis.stats import NOTHING, median_spread, round_ratio
from harness.records.ledger import mean_entering, mean_prefill_flops
from harness.records.phases import SHOWN
from harness.records.record import EfficiencyRecord
from harness.records.timed import TimedCell
from harness.tables import numbers
from harness.tables.brief import larger_half, unsure
from harness.tables.efficiency_notes import about, legend, notes, why_empty
from harness.tables.table import Brief, Column, Parts, Table, separate


def efficiency_table(record: EfficiencyRecord) -> Table:
    """Rows in the order of the accuracy table."""
    cells = sorted(record.cells, key=lambda timed: timed.cell.order)
    held = [cell for cell in cells if cell.is_ok]
    run = _Run(
        record,
        record.unpruned,
        numbers.flops_unit(_flops(cell, record) for cell in held),
        numbers.bytes_unit(cell.peak_bytes for cell in held),
        numbers.bytes_unit(cell.kv_cache_bytes for cell in held),
    )
    begins, blocks = by_budget(cells)
    statuses = [*(cell.status for cell in cells), *(run.status for run in record.equal_context)]
    frames = f", {record.identity.frames} frames" if record.identity.frames else ""
    batch = f", batch {record.identity.batch_size}" if record.rates else ""
    rows, failed = tuple(map(run.row, cells)), "failed" in statuses
    return Table(
        f"Efficiency{frames}{batch}",
        _columns(run),
        rows,
        begins,
        notes(record, held),
        failed,
        about=about(record),
        legend=legend(record, cells),
        blocks=blocks,
    )


def by_budget(cells: Sequence[TimedCell]) -> tuple[frozenset[int], dict[int, str]]:
    """The rows at which another budget begins, and what stands above those of pruned cells."""
    asked = [cell.cell.asked for cell in cells]
    begins = frozenset(i for i, a in enumerate(asked) if a.amount != asked[i - 1].amount)
    held = sorted(i for i in begins if cells[i].cell.budget)
    return begins, {i: f"{asked[i].tokens_label} a layer" for i in held}


@dataclass(frozen=True)
class _Run:
    """What the rows of one table share: units are (size, name)."""

    record: EfficiencyRecord
    upper: TimedCell | None
    flops: tuple[float, str]
    peak: tuple[float, str]
    cache: tuple[float, str]

    def row(self, cell: TimedCell) -> tuple[Parts, ...]:
        head: tuple[Parts, ...] = ((cell.label,), (cell.cell.asked.budget_label,))
        if not cell.is_ok:
            return (*head, *((),) * (len(SHOWN) + 12), (why_empty(cell),))
        doubts = "; ".join(speed.doubts(cell, self.record))
        return (*head, *self._numbers(cell), (doubts,))

    def _numbers(self, cell: TimedCell) -> tuple[Parts, ...]:
        floors = speed.floors(cell, self.record)
        return (
            (numbers.number(mean_entering(cell.ledger)),),
            *(self._time(cell, phase.name, floors.get(phase.name)) for phase in SHOWN),
            (numbers.number(speed.context(cell, self.record), 0),) if floors else (),
            self._at_equal_context(cell),
            self._flops(cell),
            *self._against_unpruned(cell, bool(floors)),
            self._frames(cell),
            _bytes(cell.peak_bytes, self.peak),
            _bytes(cell.prefill_peak_bytes, self.peak),
            _bytes(cell.decode_peak_bytes, self.peak),
            _bytes(cell.kv_cache_bytes, self.cache),
            () if cell.largest_batch is None else (str(cell.largest_batch),),
        )

    def _time(self, cell: TimedCell, phase: str, floor: speed.Floor | None) -> Parts:
        """Median and quartiles in ms, the ratio to unpruned and its interval, the floor in ms."""
        ours = rounds(cell, phase)
        if not any(ours) or (phase == "projector" and not self.record.rates):
            return ()
        spread = median_spread([1000 * seconds for seconds in ours])
        times = [numbers.three_digits(v) for v in (spread.value, spread.low, spread.high)]
        rates = self.record.rates
        least = numbers.three_digits(1000 * floor.seconds(rates)) if floor and rates else ""
        if self.upper is None:
            return (*times, "", "", "", least, "", "", "", "")
        whole = rounds(self.upper, phase)
        if cell is self.upper:
            return (*times, "", "", "", least, "1", "", "", "")
        prefill = median(rounds(self.upper, "prefill"))
        return (
            *times,
            *numbers.estimate(round_ratio(ours, whole), decimals=2),
            least,
            *numbers.estimate(round_ratio(whole, ours) if any(whole) else NOTHING, decimals=2),
            numbers.number(100 * median(ours) / prefill),
        )

    def _at_equal_context(self, cell: TimedCell) -> Parts:
        plain = speed.decode_at_equal_context(cell, self.record)
        if not plain:
            return ()
        return numbers.estimate(round_ratio(rounds(cell, "decode"), plain), decimals=2)

    def _flops(self, cell: TimedCell) -> Parts:
        flops = _flops(cell, self.record)
        share = 100 * flops / _flops(self.upper, self.record) if self.upper else float("nan")
        return numbers.three_digits(flops / self.flops[0]), numbers.number(share, 0)

    def _against_unpruned(self, cell: TimedCell, known: bool) -> tuple[Parts, Parts]:
        """Shares of what theory promises, and the break-even."""
        if not known or self.upper is None or cell is self.upper:
            return (), ()
        saved, gained = speed.theory_share(cell, self.upper, self.record)
        tokens = speed.break_even(cell, self.upper)
        length = "∞" if isinf(tokens) else numbers.number(tokens, 0)
        shares = numbers.number(100 * saved, 0), numbers.number(gained, 2)
        return shares if shares[0] else (), (length,)

    def _frames(self, cell: TimedCell) -> Parts:
        """With which unpruned is as early."""
        if not self.record.identity.frames or self.upper is None or cell is self.upper:
            return ()
        found = numbers.estimate(equal_frames(cell, self.upper, self.record), decimals=0)
        return found if found[0] else ()


def _bytes(value: float | None, unit: tuple[float, str]) -> Parts:
    return () if value is None else (numbers.three_digits(value / unit[0]),)


def _columns(run: _Run) -> tuple[Column, ...]:
    flops, peak, cache = run.flops[1], run.peak[1], run.cache[1]
    kind = next((cell.peak_kind for cell in run.record.cells if cell.peak_kind), "")
    parts = (
        *("ms", "q1_ms", "q3_ms", "ratio", "ratio_low", "ratio_high", "floor_ms"),
        *("speedup", "speedup_low", "speedup_high", "percent_of_prefill"),
    )
    dim = run.record.identity.device == "cpu"
    return (
        Column("Method", ("method",), left=True, briefs=(Brief(),)),
        Column("Budget", ("budget",)),
        Column("Tokens", ("counted_tokens",), briefs=(Brief("Tokens counted"),)),
        *(
            Column(
                f"{phase.title} {phase.unit}",
                tuple(f"{phase.name}_{part}" for part in parts),
                _time_lines,
                optional=phase.name == "projector",
                briefs=_briefs(phase.name, dim),
            )
            for phase in SHOWN
        ),
        Column("Context", ("context_rows",), optional=True),
        Column(
            "Decode at equal context",
            tuple(f"decode_equal_context_{part}" for part in ("ratio", "low", "high")),
            _ratio_lines,
            optional=True,
        ),
        Column(f"Prefill {flops}", (f"prefill_{flops.lower()}", "prefill_percent"), _flops_lines),
        Column(
            "Of theory",
            ("saving_of_theory_percent", "speedup_of_theory"),
            _share_lines,
            optional=True,
            briefs=(Brief(text=lambda parts: f"{100 * float(parts[1]):.0f} %", drops=4),),
        ),
        Column("Break-even tokens", ("break_even_tokens",), optional=True),
        Column(
            "Equal frames",
            ("equal_frames", "equal_frames_low", "equal_frames_high"),
            lambda parts: [f"{parts[0]} [{parts[1]}, {parts[2]}]" if parts[1] else parts[0]],
            optional=True,
            briefs=(Brief("Equal frames", lambda parts: parts[0], 2),),
        ),
        Column(
            f"Peak {kind} {peak}".replace("  ", " "),
            (f"peak_{kind}_{peak.lower()}",),
            briefs=(Brief(f"Peak {peak}", drops=8),),
        ),
        Column(f"Prefill peak {peak}", (f"prefill_peak_{peak.lower()}",), optional=True),
        Column(f"Decode peak {peak}", (f"decode_peak_{peak.lower()}",), optional=True),
        Column(
            f"KV cache {cache}",
            (f"kv_cache_{cache.lower()}",),
            briefs=(Brief(f"KV {cache}", drops=7),),
        ),
        Column("Largest batch", ("largest_batch",), optional=True),
        Column("Note", ("note",), left=True, optional=True),
    )


def _briefs(phase: str, dim: bool) -> tuple[Brief, ...]:
    """Of the prefill and of the whole the time and the speed-up, of decoding this alone, of the
    selection its share.
    """
    if phase == "selection":
        return (Brief("Selec- tion", lambda parts: f"{parts[10]} %" if parts[10] else "", 5),)
    if phase == "decode":
        return (Brief("Decode speed-up", _speedup, 3),)
    told = {"prefill": "Prefill", "end_to_end": "Total"}.get(phase)
    if told is None:
        return ()
    return (
        Brief(f"{told} ms", lambda parts: parts[0], 6, dim),
        Brief(f"{told} speed-up", _speedup),
    )


def _speedup(parts: Parts) -> str:
    value, low, high = parts[7:10]
    none = bool(low) and float(low) <= 1 <= float(high)
    return unsure(value + larger_half(value, low, high), none)


def _time_lines(parts: Parts) -> list[str]:
    value, low, high, ratio, ratio_low, ratio_high, floor, *_ = parts
    interval = f" [{ratio_low}, {ratio_high}]" if ratio_low else ""
    return separate(
        (
            f"{value} ({low}–{high})",
            f"×{ratio}{interval}" if ratio else "",
            f"floor {floor}" if floor else "",
        )
    )


def _ratio_lines(parts: Parts) -> list[str]:
    value, low, high = parts
    return [f"×{value} [{low}, {high}]" if low else f"×{value}"]


def _flops_lines(parts: Parts) -> list[str]:
    value, percent = parts
    return separate((value, f"({percent} %)" if percent else ""))


def _share_lines(parts: Parts) -> list[str]:
    percent, speedup = parts
    return [f"{percent} %", f"×{speedup}"]


def _flops(cell: TimedCell, record: EfficiencyRecord) -> float:
    return mean_prefill_flops(cell.ledger, record.shape)
