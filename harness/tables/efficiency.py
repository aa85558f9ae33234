"""The efficiency table of one run of interleaved rounds: a row a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from statistics import median
from typing import Any

from harness.analysis import speed
from harness.analysis.speed import rounds
from harness.analysis.stats import median_spread, round_ratio
from harness.errors import sentence
from harness.records.cell import Cell, budget_label, infeasible
from harness.records.file import Record
from harness.records.gpu import complaints
from harness.records.ledger import mean_entering, mean_prefill_flops
from harness.tables import numbers
from harness.tables.table import Column, Parts, Table, separate

Measured = Mapping[str, Any]

PHASES = {
    "vision_tower": "Vision tower ms",
    "projector": "Projector ms",
    "selection": "Selection ms",
    "prefill": "Prefill ms",
    "decode": "Decode ms/token",
    "end_to_end": "End to end ms",
}
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


def efficiency_table(record: Record) -> Table:
    """Rows in the order of the accuracy table; `record` is judged."""
    cells = sorted(record["cells"], key=lambda cell: Cell.parse(cell["cell"]).order)
    upper = next((c for c in cells if c["budget"] is None and c["status"] == "ok"), None)
    notes = [_note(cell) for cell in cells]
    held = [cell for cell, note in zip(cells, notes, strict=True) if not note]
    run = _Run(
        record,
        upper if upper in held else None,
        numbers.flops_unit(_flops(cell, record) for cell in held),
        numbers.bytes_unit(cell["peak_bytes"] for cell in held),
        numbers.bytes_unit(cell["kv_cache_bytes"] for cell in held),
    )
    columns, rows = _columns(run), [run.row(c, n) for c, n in zip(cells, notes, strict=True)]
    budgets = [cell["budget"] for cell in cells]
    begins = frozenset(i for i, budget in enumerate(budgets) if budget != budgets[i - 1])
    failed = any(note.startswith(FAILED) for note in notes)
    failed |= any(run["status"] == "failed" for run in record.get("equal_context", ()))
    batch = f", batch {record['identity']['batch_size']}" if "rates" in record else ""
    return Table(f"Efficiency{batch}", columns, tuple(rows), begins, _notes(record, held), failed)


@dataclass(frozen=True)
class _Run:
    """What the rows of one table share: units are (size, name)."""

    record: Record
    upper: Measured | None
    flops: tuple[float, str]
    peak: tuple[float, str]
    cache: tuple[float, str]

    def row(self, cell: Measured, note: str) -> tuple[Parts, ...]:
        spec = Cell.parse(cell["cell"]).method
        label = " ".join([cell["method"]["label"], *(f"{k}={v}" for k, v in spec.settings)])
        budget = budget_label(cell["budget"], cell.get("matched") is not None)
        head: tuple[Parts, ...] = ((label,), (budget,))
        if note:
            return (*head, *((),) * (len(PHASES) + 11), (note,))
        doubts = "; ".join(speed.doubts(cell, self.record))
        return (*head, *self._numbers(cell), (doubts,))

    def _numbers(self, cell: Measured) -> tuple[Parts, ...]:
        floors = speed.floors(cell, self.record)
        return (
            (numbers.number(mean_entering(cell["ledger"])),),
            *(self._time(cell, phase, floors.get(phase)) for phase in PHASES),
            (numbers.number(speed.context(cell, self.record), 0),) if floors else (),
            self._at_equal_context(cell),
            self._flops(cell),
            *self._against_unpruned(cell, bool(floors)),
            self._bytes(cell, "peak_bytes", self.peak),
            self._bytes(cell, "prefill_peak_bytes", self.peak),
            self._bytes(cell, "decode_peak_bytes", self.peak),
            self._bytes(cell, "kv_cache_bytes", self.cache),
            (str(cell["largest_batch"]["batch"]),) if "largest_batch" in cell else (),
        )

    def _time(self, cell: Measured, phase: str, floor: speed.Floor | None) -> Parts:
        """Median and quartiles in ms, the ratio to unpruned and its interval, the floor in ms."""
        ours = rounds(cell, phase)
        if not any(ours) or (phase == "projector" and "rates" not in self.record):
            return ()
        spread = median_spread([1000 * seconds for seconds in ours])
        times = [numbers.three_digits(v) for v in (spread.value, spread.low, spread.high)]
        least = numbers.three_digits(1000 * floor.seconds(self.record["rates"])) if floor else ""
        if self.upper is None or cell is self.upper:
            return (*times, "", "", "", least)
        ratio = round_ratio(ours, rounds(self.upper, phase))
        return (*times, *numbers.estimate(ratio, decimals=2), least)

    def _at_equal_context(self, cell: Measured) -> Parts:
        plain = speed.decode_at_equal_context(cell, self.record)
        if not plain:
            return ()
        return numbers.estimate(round_ratio(rounds(cell, "decode"), plain), decimals=2)

    def _flops(self, cell: Measured) -> Parts:
        flops = _flops(cell, self.record)
        share = 100 * flops / _flops(self.upper, self.record) if self.upper else float("nan")
        return numbers.three_digits(flops / self.flops[0]), numbers.number(share, 0)

    def _against_unpruned(self, cell: Measured, known: bool) -> tuple[Parts, Parts]:
        """Shares of what theory promises, and the break-even."""
        if not known or self.upper is None or cell is self.upper:
            return (), ()
        saved, gained = speed.theory_share(cell, self.upper, self.record)
        tokens = speed.break_even(cell, self.upper)
        length = "∞" if isinf(tokens) else numbers.number(tokens, 0)
        shares = numbers.number(100 * saved, 0), numbers.number(gained, 2)
        return shares if shares[0] else (), (length,)

    def _bytes(self, cell: Measured, name: str, unit: tuple[float, str]) -> Parts:
        return (numbers.three_digits(cell[name] / unit[0]),) if name in cell else ()


def _columns(run: _Run) -> tuple[Column, ...]:
    flops, peak, cache = run.flops[1], run.peak[1], run.cache[1]
    kind = next((cell["peak_kind"] for cell in run.record["cells"] if "peak_kind" in cell), "")
    parts = ("ms", "q1_ms", "q3_ms", "ratio", "ratio_low", "ratio_high", "floor_ms")
    return (
        Column("Method", ("method",), left=True),
        Column("Budget", ("budget",)),
        Column("Tokens", ("counted_tokens",)),
        *(
            Column(
                title,
                tuple(f"{phase}_{part}" for part in parts),
                _time_lines,
                optional=phase == "projector",
            )
            for phase, title in PHASES.items()
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


def _flops(cell: Measured, record: Record) -> float:
    return mean_prefill_flops(cell["ledger"], record["shape"])


def _note(cell: Measured) -> str:
    """Why a cell has no numbers."""
    if cell["status"] == "infeasible":
        return infeasible(cell.get("feasible"))
    if cell["status"] == "out_of_memory":
        return str(cell["reason"])
    return "" if cell["status"] == "ok" else f"{FAILED}: {sentence(cell['reason'])}"


def _notes(record: Record, held: Sequence[Measured]) -> tuple[str, ...]:
    identity = record["identity"]
    peak = PEAKS[held[0]["peak_kind"]] if held else ""
    rounds_done = len(record["order"]) or identity["repeats"]
    run = f"{rounds_done} interleaved rounds, {identity['new_tokens']} new tokens"
    read, origin = HOW_TO_READ.format(peak=peak), f"{run} · {numbers.origin([record])}"
    if "rates" not in record:
        return read, origin
    flops, size = (record["rates"][f"{name}_per_second"] for name in ("flops", "bytes"))
    floors = FLOORS.format(flops=flops / 1e12, bytes=size / 1e9)
    return (f"{read} {floors}", *_of_the_run(record, held), origin)


def _of_the_run(record: Record, held: Sequence[Measured]) -> list[str]:
    """What holds for all cells: kernels, weights, time between phases, state of the GPU."""
    identity = record["identity"]
    weights = numbers.in_bytes(record["weight_bytes"])
    lines = [
        f"Prompt: {identity['images']} × {record['shape']['image_tokens']} visual and "
        f"{identity['prompt_tokens']} text tokens; weights {weights}."
    ]
    if plain := record.get("equal_context"):
        lines.append(EQUAL_CONTEXT)
        failed = [f"after {run['rows']} rows: {run['reason']}" for run in plain if run["reason"]]
        lines += [f"FAILED {reason}." for reason in failed]
    if held:
        lines.append(_attention_line(held))
        lines.append(_sum_line(record, held))
    return [" ".join([*lines, *_gpu_lines(record)])]


def _attention_line(held: Sequence[Measured]) -> str:
    found = {tuple(cell["attention"]["operators"]) for cell in held}
    if len(found) > 1:
        each = "; ".join(f"{c['cell']}: {', '.join(c['attention']['operators'])}" for c in held)
        return f"ATTENTION KERNELS DIFFER, the times do not compare: {each}."
    kernels = sorted({name for cell in held for name in cell["attention"]["kernels"]})
    launched = f" ({', '.join(kernels)})" if kernels else ""
    return f"Attention in every cell, as profiled: {', '.join(found.pop())}{launched}."


def _sum_line(record: Record, held: Sequence[Measured]) -> str:
    covered = [100 * speed.coverage(cell) for cell in held]
    between = [1000 * seconds for cell in held for seconds in rounds(cell, "between_tokens")]
    line = (
        f"The phases and the {median(between):.2g} ms between two tokens sum to "
        f"{min(covered):.0f}–{max(covered):.0f} % of end to end"
    )
    upper = next((cell for cell in held if cell["budget"] is None), None)
    if upper is None or not record["stock_seconds"]:
        return f"{line}."
    hooked = rounds(upper, "end_to_end")[: len(record["stock_seconds"])]
    ratio = round_ratio(hooked, record["stock_seconds"])
    spread = f"{ratio.low:.2f}, {ratio.high:.2f}"
    return f"{line}; unpruned took ×{ratio.value:.2f} [{spread}] the time without any hook."


def _gpu_lines(record: Record) -> list[str]:
    """Clocks and temperature, and what would make a reader doubt them; nothing for a CPU."""
    before, after = record["provenance"].get("gpu_before"), record["gpu_after"]
    if not after:
        return []
    if "problem" in after:
        return [f"Other load on the GPU: {after['problem']}."]
    found = complaints(before or {}) + complaints(after, own_processes=1)
    clocks = " to ".join(_told(s, "sm_clock_mhz") for s in (record["gpu_warm"], after))
    return [
        f"SM clock {clocks} MHz of {_told(after, 'most_sm_clock_mhz')}, "
        f"{_told(after, 'temperature_celsius')} °C.",
        *([f"THE GPU WAS BUSY OR SLOWED DOWN: {', '.join(found)}."] if found else []),
    ]


def _told(state: Mapping[str, Any], field: str) -> str:
    """A driver may not tell."""
    value = state.get(field)
    return "?" if value is None else f"{value:.0f}"
