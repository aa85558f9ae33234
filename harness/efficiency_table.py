"""The efficiency table of one run of interleaved rounds: a row a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness import numbers
from harness.cells import Cell
from harness.ledger import broken_promise, mean_entering, mean_prefill_flops
from harness.record import Record
from harness.render import Column, Parts, Table, separate
from harness.stats import median_spread, round_ratio

Measured = Mapping[str, Any]

PHASES = {
    "vision_tower": "Vision tower ms",
    "selection": "Selection ms",
    "prefill": "Prefill ms",
    "decode": "Decode ms/token",
    "end_to_end": "End to end ms",
}
FAILED = "FAILED"
HOW_TO_READ = (
    "Tokens: visual tokens that entered a decoder layer, counted. Times: median (quartiles) over "
    "the rounds; ×: ratio to unpruned in the same round, median with its 95 % interval in "
    "brackets. Prefill includes the selection. FLOPs: the prefill of one sample, decoder layers "
    "and one row of the head, computed from the counted tokens. {peak} KV cache: of the batch, "
    "after the prefill."
)
PEAKS = {
    "device": "Peak: bytes that torch held on the device, weights included.",
    "process": "Peak: how far the process's resident memory rose.",
}


def efficiency_table(record: Record) -> Table:
    """Rows in the order of the accuracy table; a cell that broke its promise has no numbers."""
    cells = sorted(record["cells"], key=lambda cell: Cell.parse(cell["cell"]).order)
    upper = next((c for c in cells if c["budget"] is None and c["status"] == "ok"), None)
    notes = [_note(cell, upper) for cell in cells]
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
    return Table("Efficiency", columns, tuple(rows), begins, _notes(record, held), failed)


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
        budget = "" if cell["budget"] is None else str(cell["budget"])
        head: tuple[Parts, ...] = ((label,), (budget,))
        numbers_of = ((),) * (len(PHASES) + 4) if note else self._numbers(cell)
        return (*head, *numbers_of, (note,))

    def _numbers(self, cell: Measured) -> tuple[Parts, ...]:
        return (
            (numbers.number(mean_entering(cell["ledger"])),),
            *(self._time(cell, phase) for phase in PHASES),
            self._flops(cell),
            (numbers.three_digits(cell["peak_bytes"] / self.peak[0]),),
            (numbers.three_digits(cell["kv_cache_bytes"] / self.cache[0]),),
        )

    def _time(self, cell: Measured, phase: str) -> Parts:
        """Median and quartiles in ms, then the ratio to unpruned and its interval."""
        ours = rounds_of(cell, phase)
        spread = median_spread([1000 * seconds for seconds in ours])
        times = [numbers.three_digits(v) for v in (spread.value, spread.low, spread.high)]
        if not any(ours):
            return ()
        if self.upper is None or cell is self.upper:
            return (*times, "", "", "")
        ratio = round_ratio(ours, rounds_of(self.upper, phase))
        return (*times, *numbers.estimate(ratio, decimals=2))

    def _flops(self, cell: Measured) -> Parts:
        flops = _flops(cell, self.record)
        share = 100 * flops / _flops(self.upper, self.record) if self.upper else float("nan")
        return numbers.three_digits(flops / self.flops[0]), numbers.number(share, 0)


def _columns(run: _Run) -> tuple[Column, ...]:
    flops, peak, cache = run.flops[1], run.peak[1], run.cache[1]
    kind = next((cell["peak_kind"] for cell in run.record["cells"] if "peak_kind" in cell), "")
    parts = ("ms", "q1_ms", "q3_ms", "ratio", "ratio_low", "ratio_high")
    return (
        Column("Method", ("method",), left=True),
        Column("Budget", ("budget",)),
        Column("Tokens", ("counted_tokens",)),
        *(
            Column(title, tuple(f"{phase}_{part}" for part in parts), _time_lines)
            for phase, title in PHASES.items()
        ),
        Column(f"Prefill {flops}", (f"prefill_{flops.lower()}", "prefill_percent"), _flops_lines),
        Column(f"Peak {kind} {peak}".replace("  ", " "), (f"peak_{kind}_{peak.lower()}",)),
        Column(f"KV cache {cache}", (f"kv_cache_{cache.lower()}",)),
        Column("Note", ("note",), left=True, optional=True),
    )


def _time_lines(parts: Parts) -> list[str]:
    value, low, high, ratio, ratio_low, ratio_high = parts
    interval = f" [{ratio_low}, {ratio_high}]" if ratio_low else ""
    return separate((f"{value} ({low}–{high})", f"×{ratio}{interval}" if ratio else ""))


def _flops_lines(parts: Parts) -> list[str]:
    value, percent = parts
    return separate((value, f"({percent} %)" if percent else ""))


def rounds_of(cell: Measured, phase: str) -> list[float]:
    """Seconds of each round; a round's several decode steps count as their median."""
    raw = cell["raw_seconds"].get(phase) or []
    rounds = [median(x) if isinstance(x, Sequence) else x for x in raw]
    if phase != "prefill":
        return rounds
    selection = cell["raw_seconds"].get("selection") or [0.0] * len(rounds)
    return [a + b for a, b in zip(rounds, selection, strict=True)]


def _flops(cell: Measured, record: Record) -> float:
    return mean_prefill_flops(cell["ledger"], record["shape"])


def _note(cell: Measured, upper: Measured | None) -> str:
    if cell["status"] == "infeasible":
        return numbers.infeasible(cell.get("feasible"))
    if cell["status"] != "ok":
        return f"{FAILED}: {numbers.sentence(cell['reason'])}"
    published = ("schedule", "published") in Cell.parse(cell["cell"]).method.settings
    total = upper["ledger"][0]["entering"][0] if upper and upper["ledger"] else None
    whole = {i for i, row in enumerate(cell["ledger"]) if set(row["entering"]) == {total}}
    broken = broken_promise(cell["ledger"], cell["budget"], published, whole)
    return f"{FAILED}: {broken}" if broken else ""


def _notes(record: Record, held: Sequence[Measured]) -> tuple[str, ...]:
    identity = record["identity"]
    peak = PEAKS[held[0]["peak_kind"]] if held else ""
    rounds = f"{identity['repeats']} interleaved rounds, {identity['new_tokens']} new tokens"
    return HOW_TO_READ.format(peak=peak), f"{rounds} · {numbers.origin([record])}"
