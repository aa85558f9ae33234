"""What follows from an efficiency record: floors, shares of theory, break-even, doubts.

All from raw samples, counts and the record's own device rates; nothing of it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import median

from harness.records import cost
from harness.records.ledger import (
    cached_by_layer,
    mean_cache_bytes,
    mean_cached,
    mean_prefill_flops,
    mean_projected,
    mean_tower_flops,
    tower_is_known,
)
from harness.records.phases import OF_TOKENS, ONCE
from harness.records.record import EfficiencyRecord
from harness.records.timed import Rates, TimedCell

WORTHWHILE = 0.05
"""A method that saves a smaller share of the end-to-end time is past its break-even."""
AGREEMENT = 0.01
"""Counted and computed FLOPs and bytes agree to this share."""
COVERAGE = 0.05
"""The phases add up to the end-to-end time to this share."""


def rounds(cell: TimedCell, phase: str) -> list[float]:
    """Seconds of each round; a round's several decode steps count as their median, and the prefill
    has the selection in it.
    """
    values = cell.rounds(phase)
    if phase != "prefill":
        return values
    selection = cell.rounds("selection") or [0.0] * len(values)
    return [a + b for a, b in zip(values, selection, strict=True)]


@dataclass(frozen=True)
class Floor:
    """The least that a phase has to compute and to move, of the whole batch."""

    flops: float
    bytes: float

    def seconds(self, rates: Rates) -> float:
        """At the device's measured rates; both at once."""
        return max(self.flops / rates.flops_per_second, self.bytes / rates.bytes_per_second)


def floors(cell: TimedCell, record: EfficiencyRecord) -> dict[str, Floor]:
    """By phase; weights are read once a forward. Empty for a record without device rates; of the
    decoder's phases alone where what the tower costs is not known.
    """
    if record.rates is None:
        return {}
    shape, identity, ledger = record.shape, record.identity, cell.ledger
    size, batch, images = cost.DTYPE_BYTES[identity.dtype], identity.batch_size, identity.images
    keys = batch * mean_cache_bytes(ledger, shape, identity.dtype)
    rows = [cached + identity.new_tokens / 2 for cached in cached_by_layer(ledger)]
    decoder = {
        "prefill": Floor(
            batch * mean_prefill_flops(ledger, shape),
            size * cost.decoder_weights(shape) + keys,
        ),
        "decode": Floor(
            batch * cost.decode_flops(shape, rows),
            size * cost.decoder_weights(shape)
            + batch * cost.kv_cache_bytes(shape, rows, identity.dtype),
        ),
    }
    if not tower_is_known(ledger, shape):
        return decoder
    tower = Floor(batch * mean_tower_flops(ledger, shape, images), size * cost.tower_weights(shape))
    found = {"vision_tower": tower, **decoder}
    if projected := batch * mean_projected(ledger, shape, images) + cell.merged_rows:
        flops = cost.projector_flops(shape, projected)
        found |= {"projector": Floor(flops, size * cost.projector_weights(shape))}
    steps = identity.new_tokens - 1
    times = {phase: floor.seconds(record.rates) for phase, floor in found.items()}
    whole = sum(times.values()) + (steps - 1) * times["decode"]
    return {**found, "end_to_end": Floor(whole * record.rates.flops_per_second, 0)}


def context(cell: TimedCell, record: EfficiencyRecord) -> float:
    """Rows a layer that a new token attends to, mean over layers, half-way through the answer."""
    return mean_cached(cell.ledger) + record.identity.new_tokens / 2


def decode_at_equal_context(cell: TimedCell, record: EfficiencyRecord) -> list[float]:
    """Seconds of a new token in each round, of the unpruned model after a text prompt that fills
    as many rows of the KV cache; empty where this was not measured.
    """
    rows = round(mean_cached(cell.ledger))
    plain = (run for run in record.equal_context if run.rows == rows)
    return [median(steps) for run in plain if run.status == "ok" for steps in run.decode]


def theory_share(
    ours: TimedCell, theirs: TimedCell, record: EfficiencyRecord
) -> tuple[float, float]:
    """Of what the decoder's FLOPs promise for the prefill: share of the time saved, and measured
    speed-up over promised speed-up. Selection counts as prefill. NaN where nothing is promised.
    """
    shape = record.shape
    flops = mean_prefill_flops(ours.ledger, shape) / mean_prefill_flops(theirs.ledger, shape)
    ratios = [
        a / b for a, b in zip(rounds(ours, "prefill"), rounds(theirs, "prefill"), strict=True)
    ]
    ratio = median(ratios)
    return (1 - ratio) / (1 - flops) if flops < 1 else nan, flops / ratio


def break_even(ours: TimedCell, theirs: TimedCell) -> float:
    """Answer length in tokens from which less than `WORTHWHILE` is saved end to end.

    Time to the first token and time of each further one are medians of the record; the length is
    extrapolated. 0: never saved that much; inf: saved at any length.
    """
    first, step = _first_and_step(ours)
    their_first, their_step = _first_and_step(theirs)
    spare = (1 - WORTHWHILE) * their_first - first
    cost_of_a_token = step - (1 - WORTHWHILE) * their_step
    if spare <= 0 and cost_of_a_token >= 0:
        return 0
    return inf if cost_of_a_token <= 0 else 1 + spare / cost_of_a_token


def _first_and_step(cell: TimedCell) -> tuple[float, float]:
    """Seconds until the first token, and of each further one."""
    decode = cell.raw("decode")
    pairs = zip(decode, cell.raw("between_tokens"), strict=True)
    further = [sum(steps) + sum(between) for steps, between in pairs]
    steps = len(decode[0])
    first = median(a - b for a, b in zip(cell.raw("end_to_end"), further, strict=True))
    return first, median(further) / steps


def coverage(cell: TimedCell) -> float:
    """Sum of the phases over the end-to-end time, both of a round; median over rounds."""
    parts = [*map(cell.raw, ONCE), *([sum(steps) for steps in cell.raw(p)] for p in OF_TOKENS)]
    summed = map(sum, zip(*parts, strict=True))
    whole = cell.raw("end_to_end")
    return float(median(a / b for a, b in zip(summed, whole, strict=True)))


def doubts(cell: TimedCell, record: EfficiencyRecord) -> list[str]:
    """What a reader must know before believing the cell's numbers; nothing of old records."""
    if record.rates is None:
        return []
    covered, found = coverage(cell), []
    if abs(covered - 1) > COVERAGE:
        found.append(f"phases sum to {100 * covered:.0f} % of end to end")
    for phase, share in flop_errors(cell, record).items():
        if abs(share) > AGREEMENT:
            found.append(f"counted FLOPs of {phase} are {100 * share:+.1f} % off the formula")
    identity = record.identity
    keys = mean_cache_bytes(cell.ledger, record.shape, identity.dtype)
    share = cell.kv_cache_bytes / (identity.batch_size * keys) - 1
    if abs(share) > AGREEMENT:
        found.append(f"the KV cache is {100 * share:+.1f} % off the formula")
    return found


def flop_errors(cell: TimedCell, record: EfficiencyRecord) -> dict[str, float]:
    """By how much torch's counter differs from the formula, as a share, by phase."""
    computed = floors(cell, record)
    counted = dict(cell.counted_flops)
    if "prefill" in counted:
        counted["prefill"] += counted.get("selection", 0)
    phases = [phase for phase in computed if phase in counted]
    errors = {phase: counted[phase] / computed[phase].flops - 1 for phase in phases}
    return {phase: error for phase, error in errors.items() if isfinite(error)}
