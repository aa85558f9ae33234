"""The efficiency table of one run of interleaved rounds: a row a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from statistics import median

from harness.analysis import speed
from harness.analysis.speed import rounds
from harness.analysis.stats import median_spread, round_ratio
from harness.errors import sentence
from harness.records.cell import infeasible
from harness.records.gpu import complaints
from harness.records.ledger import mean_entering, mean_prefill_flops
from harness.records.phases import SHOWN
from harness.records.record import EfficiencyRecord
from harness.records.timed import TimedCell
from harness.tables import numbers
from harness.tables.table import Column, Parts, Table, separate

FAILED = "FAILED"
HOW_TO_READ = (
    "Tokens: visual tokens that entered a decoder layer, counted. Times: median (quartiles) over "
    "the rounds; ×: ratio to unpruned in the same round, median with its 95 % interval in "
    "brackets. Prefill includes the selection. FLOPs: the prefill of one sample, decoder layers, "
    "selections and one row of the head, computed from the counted tokens. {peak} KV cache: of "
    "the batch, after the prefill."
)
FLOORS = (
    "Floor: FLOPs over {flops:.3g} TFLOP/s and bytes over {bytes:.3g} GB/s, the larger, at the "
    "device's rates measured in this run; of the prefill without the selection. Of theory: share "
    "of the prefill time saved that the FLOPs promise, and measured over promised speed-up. "
    "Break-even: answer tokens from which less than 5 % is saved end to end (0: never that much, "
    "∞: always), extrapolated. Context: rows a layer that a new token attends to."
)
EQUAL_CONTEXT = (
    "Decode at equal context: a new token's time over that of the unpruned model in the same "
    "round, after a text prompt that fills as many rows of the cache."
)
PEAKS = {
    "device": "Peak: bytes that torch held on the device, weights included.",
    "process": "Peak: how far the process's resident memory rose.",
}


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
    budgets = [timed.cell.asked.amount for timed in cells]
    begins = frozenset(i for i, budget in enumerate(budgets) if budget != budgets[i - 1])
    statuses = [*(cell.status for cell in cells), *(run.status for run in record.equal_context)]
    batch = f", batch {record.identity.batch_size}" if record.rates else ""
    rows, notes, failed = tuple(map(run.row, cells)), _notes(record, held), "failed" in statuses
    return Table(f"Efficiency{batch}", _columns(run), rows, begins, notes, failed)


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
            return (*head, *((),) * (len(SHOWN) + 11), (_note(cell),))
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
        if self.upper is None or cell is self.upper:
            return (*times, "", "", "", least)
        ratio = round_ratio(ours, rounds(self.upper, phase))
        return (*times, *numbers.estimate(ratio, decimals=2), least)

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


def _bytes(value: float | None, unit: tuple[float, str]) -> Parts:
    return () if value is None else (numbers.three_digits(value / unit[0]),)


def _columns(run: _Run) -> tuple[Column, ...]:
    flops, peak, cache = run.flops[1], run.peak[1], run.cache[1]
    kind = next((cell.peak_kind for cell in run.record.cells if cell.peak_kind), "")
    parts = ("ms", "q1_ms", "q3_ms", "ratio", "ratio_low", "ratio_high", "floor_ms")
    return (
        Column("Method", ("method",), left=True),
        Column("Budget", ("budget",)),
        Column("Tokens", ("counted_tokens",)),
        *(
            Column(
                f"{phase.title} {phase.unit}",
                tuple(f"{phase.name}_{part}" for part in parts),
                _time_lines,
                optional=phase.name == "projector",
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
        ),
        Column("Break-even tokens", ("break_even_tokens",), optional=True),
        Column(f"Peak {kind} {peak}".replace("  ", " "), (f"peak_{kind}_{peak.lower()}",)),
        Column(f"Prefill peak {peak}", (f"prefill_peak_{peak.lower()}",), optional=True),
        Column(f"Decode peak {peak}", (f"decode_peak_{peak.lower()}",), optional=True),
        Column(f"KV cache {cache}", (f"kv_cache_{cache.lower()}",)),
        Column("Largest batch", ("largest_batch",), optional=True),
        Column("Note", ("note",), left=True, optional=True),
    )


def _time_lines(parts: Parts) -> list[str]:
    value, low, high, ratio, ratio_low, ratio_high, floor = parts
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


def _note(cell: TimedCell) -> str:
    """Why a cell has no numbers."""
    if cell.status == "infeasible":
        return infeasible(cell.feasible)
    reason = cell.reason or ""
    return f"{FAILED}: {sentence(reason)}" if cell.status == "failed" else reason


def _notes(record: EfficiencyRecord, held: Sequence[TimedCell]) -> tuple[str, ...]:
    identity, rates = record.identity, record.rates
    peak = PEAKS[held[0].peak_kind] if held else ""
    run = (
        f"{record.rounds or identity.repeats} interleaved rounds, {identity.new_tokens} new tokens"
    )
    read, origin = HOW_TO_READ.format(peak=peak), f"{run} · {numbers.origin([record])}"
    if rates is None:
        return read, origin
    floors = FLOORS.format(flops=rates.flops_per_second / 1e12, bytes=rates.bytes_per_second / 1e9)
    return (f"{read} {floors}", *_of_the_run(record, held), origin)


def _of_the_run(record: EfficiencyRecord, held: Sequence[TimedCell]) -> list[str]:
    """What holds for all cells: kernels, weights, time between phases, state of the GPU."""
    identity = record.identity
    lines = [
        f"Prompt: {identity.images} × {record.image_tokens} visual and "
        f"{identity.prompt_tokens} text tokens; weights {numbers.in_bytes(record.weight_bytes)}."
    ]
    if record.equal_context:
        lines.append(EQUAL_CONTEXT)
        failed = [run for run in record.equal_context if run.reason]
        lines += [f"FAILED after {run.rows} rows: {run.reason}." for run in failed]
    if held:
        lines.append(_attention_line(held))
        lines.append(_sum_line(record, held))
    return [" ".join([*lines, *_gpu_lines(record)])]


def _attention_line(held: Sequence[TimedCell]) -> str:
    found = {tuple(cell.operators) for cell in held}
    if len(found) > 1:
        each = "; ".join(f"{c.cell.text}: {', '.join(c.operators)}" for c in held)
        return f"ATTENTION KERNELS DIFFER, the times do not compare: {each}."
    kernels = sorted({name for cell in held for name in cell.kernels})
    launched = f" ({', '.join(kernels)})" if kernels else ""
    return f"Attention in every cell, as profiled: {', '.join(found.pop())}{launched}."


def _sum_line(record: EfficiencyRecord, held: Sequence[TimedCell]) -> str:
    covered = [100 * speed.coverage(cell) for cell in held]
    between = [1000 * seconds for cell in held for seconds in rounds(cell, "between_tokens")]
    line = (
        f"The phases and the {median(between):.2g} ms between two tokens sum to "
        f"{min(covered):.0f}–{max(covered):.0f} % of end to end"
    )
    upper = record.unpruned
    if upper is None or not record.stock_seconds:
        return f"{line}."
    hooked = rounds(upper, "end_to_end")[: len(record.stock_seconds)]
    ratio = round_ratio(hooked, record.stock_seconds)
    spread = f"{ratio.low:.2f}, {ratio.high:.2f}"
    return f"{line}; unpruned took ×{ratio.value:.2f} [{spread}] the time without any hook."


def _gpu_lines(record: EfficiencyRecord) -> list[str]:
    """Clocks and temperature, and what would make a reader doubt them; nothing for a CPU."""
    before, warm, after = record.provenance.gpu_before, record.gpu_warm, record.gpu_after
    if not after:
        return []
    if after.problem:
        return [f"Other load on the GPU: {after.problem}."]
    found = complaints(before) + complaints(after, own_processes=1)
    clocks = " to ".join(_told(state.sm_clock_mhz if state else None) for state in (warm, after))
    return [
        f"SM clock {clocks} MHz of {_told(after.most_sm_clock_mhz)}, "
        f"{_told(after.temperature_celsius)} °C.",
        *([f"THE GPU WAS BUSY OR SLOWED DOWN: {', '.join(found)}."] if found else []),
    ]


def _told(value: float | None) -> str:
    """A driver may not tell."""
    return "?" if value is None else f"{value:.0f}"
