"""What a record's ledger says: whether the promise was kept, and what the counted tokens cost.

A ledger row is `{"entering": [..], "cached": [..], "planned": [..], "text": n,
"selection_flops": n, "samples": n}`: visual tokens that entered each layer, KV rows after the
prefill, what the plan promised, text tokens, FLOPs of the selections (0 where a record has none),
and how many samples were alike. Where images were cut inside the vision tower, "tower" has for
each of them `[rows into attention, rows into MLP]` of every tower layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from harness.records import cost
from harness.records.cell import Cell
from harness.records.file import Record

Row = Mapping[str, Any]


def judged(record: Record) -> Record:
    """The record with each cell failed that broke its promise; what every reader begins with.

    Such a cell has the status "failed", the promise as reason, and "broken" to tell it from one
    without counts. `record` is whole or an outline.
    """
    if record["kind"] == "accuracy":
        return _unless_broken(record, promise_broken)
    cells = record["cells"]
    upper = next((c for c in cells if c["budget"] is None and c["status"] == "ok"), None)
    total = upper["ledger"][0]["entering"][0] if upper and upper["ledger"] else None
    return {
        **record,
        "cells": [_unless_broken(c, lambda cell: _broken_times(cell, total)) for c in cells],
    }


def _unless_broken(cell: Record, broken: Callable[[Record], str | None]) -> Record:
    reason = broken(cell)
    if reason is None:
        return cell
    return {**cell, "status": "failed", "reason": reason, "broken": True}


def promise_broken(record: Record) -> str | None:
    """Why the counts of a finished accuracy record may not be printed as its budget's, or None.

    An outline leaves selections out unless there were none.
    """
    if record["status"] != "ok":
        return None
    identity, ledger = record["identity"], record["ledger"]
    cut = {sample["ledger"] for sample in record["samples"] if sample.get("selections", True)}
    whole = set(range(len(ledger))) - cut
    published = identity["settings"].get("schedule") == "published"
    return broken_promise(ledger, identity.get("matched", identity["budget"]), published, whole)


def _broken_times(cell: Record, total: int | None) -> str | None:
    """As `promise_broken`, of a timed cell; `total`: visual tokens of the whole input."""
    if cell["status"] != "ok":
        return None
    asked = Cell.parse(cell["cell"])
    published = ("schedule", "published") in asked.method.settings
    whole = {i for i, row in enumerate(cell["ledger"]) if set(row["entering"]) == {total}}
    return broken_promise(cell["ledger"], asked.tokens, published, whole)


def broken_promise(
    ledger: Sequence[Row], budget: float | None, published: bool, whole: Collection[int] = ()
) -> str | None:
    """Why these counts must not be printed as the budget's, or None when they hold.

    Every layer of every sample must have been entered by exactly what was planned, and must cache
    what entered. Unless the schedule is a paper's own list (`published`), the mean over layers
    lies within 1 of the `budget`; rows in `whole` had fewer tokens than that and were not cut.
    """
    if not ledger:
        return "no tokens were counted"
    for index, row in enumerate(ledger):
        reason = _against_plan(row)
        if reason is None and budget is not None and not published:
            reason = _against_request(row["entering"], budget, index in whole)
        if reason:
            return reason
    return None


def _against_plan(row: Row) -> str | None:
    counted, planned, cached = row["entering"], row["planned"], row["cached"]
    if not len(counted) == len(planned) == len(cached):
        return f"{len(counted)} layers were counted, {len(planned)} planned, {len(cached)} cached"
    for layer, (entered, promised, kept) in enumerate(zip(counted, planned, cached, strict=True)):
        if entered != promised:
            return f"{entered} visual tokens entered layer {layer}, planned were {promised}"
        if kept != entered + row["text"]:
            return f"layer {layer} caches {kept} rows, {entered + row['text']} tokens entered it"
    return None


def _against_request(entering: Sequence[int], budget: float, whole: bool) -> str | None:
    layers = len(entering)
    excess = sum(entering) - budget * layers
    if abs(excess) <= layers or (whole and excess < 0):
        return None
    mean = sum(entering) / layers
    return f"{mean:.1f} visual tokens entered a layer on average, requested were {budget}"


def mean_entering(ledger: Sequence[Row]) -> float:
    """Visual tokens entering a layer, averaged over layers and samples."""
    return _over_samples(ledger, lambda row: sum(row["entering"]) / len(row["entering"]))


def mean_cached(ledger: Sequence[Row]) -> float:
    """Rows of the KV cache after the prefill, averaged over layers and samples."""
    return _over_samples(ledger, lambda row: sum(row["cached"]) / len(row["cached"]))


def mean_prefill_flops(ledger: Sequence[Row], shape: cost.Shape) -> float:
    """FLOPs of the decoder's prefill with all selections, averaged over samples."""
    return _over_samples(
        ledger,
        lambda row: (
            cost.prefill_flops(shape, row["entering"], row["text"]) + row.get("selection_flops", 0)
        ),
    )


def mean_tower_flops(ledger: Sequence[Row], shape: cost.Shape, images: int) -> float:
    """FLOPs of the vision tower for a sample's `images`, averaged over samples."""
    whole = [()] * images
    return _over_samples(
        ledger, lambda row: sum(cost.tower_flops(shape, rows) for rows in row.get("tower", whole))
    )


def mean_projected(ledger: Sequence[Row], shape: cost.Shape, images: int) -> float:
    """Rows of a sample's `images` that leave the tower for the projector, averaged over samples."""
    tokens = shape["image_tokens"]
    return _over_samples(
        ledger,
        lambda row: (
            sum(tokens - shape["tower_rows"] + rows[-1][1] for rows in row["tower"])
            if "tower" in row
            else images * tokens
        ),
    )


def mean_cache_bytes(ledger: Sequence[Row], shape: cost.Shape, dtype: str) -> float:
    """Bytes of the KV cache after the prefill, averaged over samples."""
    return _over_samples(ledger, lambda row: cost.kv_cache_bytes(shape, row["cached"], dtype))


def _over_samples(ledger: Sequence[Row], value: Callable[[Row], float]) -> float:
    samples = sum(row["samples"] for row in ledger)
    return sum(value(row) * row["samples"] for row in ledger) / samples
