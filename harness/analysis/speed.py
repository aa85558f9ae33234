"""What follows from an efficiency record: floors, shares of theory, break-even, doubts.

All from raw samples, counts and the record's own device rates; nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import median
from typing import Any

from harness.records import cost
from harness.records.file import Record
from harness.records.ledger import (
    mean_cache_bytes,
    mean_cached,
    mean_prefill_flops,
    mean_projected,
    mean_tower_flops,
)

Measured = Mapping[str, Any]

WORTHWHILE = 0.05
"""A method that saves a smaller share of the end-to-end time is past its break-even."""
AGREEMENT = 0.01
"""Counted and computed FLOPs and bytes agree to this share."""
COVERAGE = 0.05
"""The phases add up to the end-to-end time to this share."""
SUMMED = ("vision_tower", "projector", "selection", "prefill")
LISTED = ("decode", "between_tokens")


def rounds(cell: Measured, phase: str) -> list[float]:
    """Seconds of each round; a round's several decode steps count as their median, and the prefill
    has the selection in it.
    """
    raw = cell["raw_seconds"].get(phase) or []
    values = [median(x) if isinstance(x, Sequence) else x for x in raw]
    if phase != "prefill":
        return values
    selection = cell["raw_seconds"].get("selection") or [0.0] * len(values)
    return [a + b for a, b in zip(values, selection, strict=True)]


@dataclass(frozen=True)
class Floor:
    """The least that a phase has to compute and to move, of the whole batch."""

    flops: float
    bytes: float

    def seconds(self, rates: Mapping[str, float]) -> float:
        """At the device's measured rates; both at once."""
        return max(self.flops / rates["flops_per_second"], self.bytes / rates["bytes_per_second"])


def floors(cell: Measured, record: Record) -> dict[str, Floor]:
    """By phase; weights are read once a forward. Empty for a record without device rates."""
    if "rates" not in record:
        return {}
    shape, identity = record["shape"], record["identity"]
    size, batch = cost.DTYPE_BYTES[identity["dtype"]], identity["batch_size"]
    ledger, images = cell["ledger"], identity["images"]
    keys = batch * mean_cache_bytes(cell["ledger"], shape, identity["dtype"])
    projected = batch * mean_projected(ledger, shape, images) + cell["merged_rows"]
    rows = _rows_in_decode(cell, identity)
    found = {
        "vision_tower": Floor(
            batch * mean_tower_flops(ledger, shape, images), size * cost.tower_weights(shape)
        ),
        "projector": Floor(
            cost.projector_flops(shape, projected), size * cost.projector_weights(shape)
        ),
        "prefill": Floor(
            batch * mean_prefill_flops(cell["ledger"], shape),
            size * cost.decoder_weights(shape) + keys,
        ),
        "decode": Floor(
            batch * cost.decode_flops(shape, rows),
            size * cost.decoder_weights(shape)
            + batch * cost.kv_cache_bytes(shape, rows, identity["dtype"]),
        ),
    }
    steps = identity["new_tokens"] - 1
    times = {phase: floor.seconds(record["rates"]) for phase, floor in found.items()}
    whole = sum(times.values()) + (steps - 1) * times["decode"]
    return {**found, "end_to_end": Floor(whole * record["rates"]["flops_per_second"], 0)}


def context(cell: Measured, record: Record) -> float:
    """Rows a layer that a new token attends to, mean over layers, half-way through the answer."""
    return mean_cached(cell["ledger"]) + record["identity"]["new_tokens"] / 2


def _rows_in_decode(cell: Measured, identity: Mapping[str, Any]) -> list[float]:
    samples = sum(row["samples"] for row in cell["ledger"])
    layers = zip(*(row["cached"] for row in cell["ledger"]), strict=True)
    weights = [row["samples"] for row in cell["ledger"]]
    means = [sum(r * w for r, w in zip(rows, weights, strict=True)) / samples for rows in layers]
    return [mean + identity["new_tokens"] / 2 for mean in means]


def decode_at_equal_context(cell: Measured, record: Record) -> list[float]:
    """Seconds of a new token in each round, of the unpruned model after a text prompt that fills
    as many rows of the KV cache; empty where this was not measured.
    """
    rows = round(mean_cached(cell["ledger"]))
    plain = (run for run in record.get("equal_context", ()) if run["rows"] == rows)
    return [median(steps) for run in plain if run["status"] == "ok" for steps in run["decode"]]


def theory_share(ours: Measured, theirs: Measured, record: Record) -> tuple[float, float]:
    """Of what the decoder's FLOPs promise for the prefill: share of the time saved, and measured
    speed-up over promised speed-up. Selection counts as prefill. NaN where nothing is promised.
    """
    shape = record["shape"]
    flops = mean_prefill_flops(ours["ledger"], shape) / mean_prefill_flops(theirs["ledger"], shape)
    ratios = [
        a / b for a, b in zip(rounds(ours, "prefill"), rounds(theirs, "prefill"), strict=True)
    ]
    ratio = median(ratios)
    return (1 - ratio) / (1 - flops) if flops < 1 else nan, flops / ratio


def break_even(ours: Measured, theirs: Measured) -> float:
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


def _first_and_step(cell: Measured) -> tuple[float, float]:
    """Seconds until the first token, and of each further one."""
    raw = cell["raw_seconds"]
    pairs = zip(raw["decode"], raw["between_tokens"], strict=True)
    further = [sum(decode) + sum(between) for decode, between in pairs]
    steps = len(raw["decode"][0])
    first = median(a - b for a, b in zip(raw["end_to_end"], further, strict=True))
    return first, median(further) / steps


def coverage(cell: Measured) -> float:
    """Sum of the phases over the end-to-end time, both of a round; median over rounds."""
    raw = cell["raw_seconds"]
    parts = [raw[phase] for phase in SUMMED] + [list(map(sum, raw[p])) for p in LISTED]
    return median(
        sum(phases) / whole for *phases, whole in zip(*parts, raw["end_to_end"], strict=True)
    )


def doubts(cell: Measured, record: Record) -> list[str]:
    """What a reader must know before believing the cell's numbers; nothing of old records."""
    if "rates" not in record:
        return []
    covered, found = coverage(cell), []
    if abs(covered - 1) > COVERAGE:
        found.append(f"phases sum to {100 * covered:.0f} % of end to end")
    for phase, share in flop_errors(cell, record).items():
        if abs(share) > AGREEMENT:
            found.append(f"counted FLOPs of {phase} are {100 * share:+.1f} % off the formula")
    identity = record["identity"]
    keys = mean_cache_bytes(cell["ledger"], record["shape"], identity["dtype"])
    share = cell["kv_cache_bytes"] / (identity["batch_size"] * keys) - 1
    if abs(share) > AGREEMENT:
        found.append(f"the KV cache is {100 * share:+.1f} % off the formula")
    return found


def flop_errors(cell: Measured, record: Record) -> dict[str, float]:
    """By how much torch's counter differs from the formula, as a share, by phase."""
    computed = floors(cell, record)
    counted = dict(cell["counted_flops"])
    if "prefill" in counted:
        counted["prefill"] += counted.get("selection", 0)
    phases = [phase for phase in ("vision_tower", "projector", "prefill") if phase in counted]
    errors = {phase: counted[phase] / computed[phase].flops - 1 for phase in phases}
    return {phase: error for phase, error in errors.items() if isfinite(error)}
