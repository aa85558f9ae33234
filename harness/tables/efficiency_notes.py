"""What stands below an efficiency table: how to read it, and what makes a number doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from harness.analysis import speed
from harness.analysis.speed import rounds
from harness.analysis.stats import round_ratio
from harness.errors import sentence
from harness.records.gpu import complaints
from harness.records.record import EfficiencyRecord
from harness.records.timed import TimedCell
from harness.tables import numbers
from harness.tables.reasons import gathered

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
EQUAL_FRAMES = (
    "Equal frames: with so many unpruned has its first token as early; with fewer frames its time "
    "is taken to follow the FLOPs."
)
LEGEND = (
    "Speed-up: unpruned's time over this one's in the same round, ± the farther end of the 95 % "
    "interval, ≈ where that holds 1. Of theory: of the speed-up that FLOPs promise. Selection: of "
    "unpruned's prefill. Total: {tokens} new tokens."
)
PEAKS = {
    "device": "Peak: bytes that torch held on the device, weights included.",
    "process": "Peak: how far the process's resident memory rose.",
}


def about(record: EfficiencyRecord) -> str:
    asked = record.identity
    rounds_done = record.rounds or asked.repeats
    return f"{asked.model} · {asked.device} {asked.dtype} · {rounds_done} rounds"


def legend(record: EfficiencyRecord, cells: Sequence[TimedCell]) -> tuple[str, ...]:
    """How to read it briefly, then why there are no numbers, or whatever makes them doubtful."""
    held = [cell for cell in cells if cell.is_ok]
    why = [(cell, why_empty(cell)) for cell in cells if not cell.is_ok]
    why += [(cell, doubt) for cell in held for doubt in speed.doubts(cell, record)]
    return (
        " ".join([LEGEND.format(tokens=record.identity.new_tokens), *_equal_frames(record)]),
        *gathered((c.label, c.cell.asked.tokens_label, reason) for c, reason in why),
        *_alarms(record, held),
    )


def why_empty(cell: TimedCell) -> str:
    """Why a cell has no numbers."""
    if cell.status == "infeasible":
        return cell.unmet
    reason = cell.reason or ""
    return f"{FAILED}: {sentence(reason)}" if cell.status == "failed" else reason


def notes(record: EfficiencyRecord, held: Sequence[TimedCell]) -> tuple[str, ...]:
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
    lines = [f"Prompt: {_prompt(record)}; weights {numbers.in_bytes(record.weight_bytes)}."]
    lines += _equal_frames(record)
    if record.equal_context:
        lines.append(EQUAL_CONTEXT)
        lines += _failed_contexts(record)
    if held:
        lines.append(_attention_line(held))
        lines.append(_sum_line(record, held))
    return [" ".join([*lines, *_gpu_lines(record)])]


def _prompt(record: EfficiencyRecord) -> str:
    """What was shown, and how long the text was."""
    identity, upper = record.identity, record.unpruned
    if not identity.frames:
        visual = f"{identity.images} × {record.image_tokens} visual"
        return f"{visual} and {identity.prompt_tokens} text tokens"
    text = upper.ledger[0].text if upper else identity.prompt_tokens
    video = f"1 video of {identity.frames} frames"
    return f"{video}, {record.image_tokens} visual and {text} text tokens"


def _equal_frames(record: EfficiencyRecord) -> list[str]:
    return [EQUAL_FRAMES] if record.identity.frames else []


def _alarms(record: EfficiencyRecord, held: Sequence[TimedCell]) -> list[str]:
    """What a reader must not miss."""
    told = [*_failed_contexts(record), *([_attention_line(held)] if held else [])]
    return [line for line in (*told, *_gpu_lines(record)) if line.split()[0].isupper()]


def _failed_contexts(record: EfficiencyRecord) -> list[str]:
    failed = [run for run in record.equal_context if run.reason]
    return [f"FAILED after {run.rows} rows: {run.reason}." for run in failed]


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
