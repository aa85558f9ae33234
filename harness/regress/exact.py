"""Quantities that a deterministic program gives again: any difference is a regression.

Counts, costs and parameters must be equal everywhere. What was selected and answered depends on
floating point, so that it is compared on equal versions and machines only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records.ledger import LedgerRow, mean_entering, mean_prefill_flops
from harness.records.record import AccuracyRecord, EfficiencyRecord
from harness.records.selections import Selection, json_digest
from harness.records.timed import TimedCell
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.sources import Pair, place_difference, version_differences

Parts = Mapping[str, str]
"""What is compared of a sample, by name."""


@dataclass(frozen=True)
class Counted:
    """What one cell did to its samples: a ledger row and the parameters of each, by item."""

    rows: Mapping[str, LedgerRow]
    parameters: Mapping[str, Any]
    tokens: float
    flops: float


def answered(records: Sequence[AccuracyRecord]) -> Counted:
    """The counts of a cell's accuracy records, one a task."""
    rows = {
        item: record.ledger[row]
        for record in records
        for item, row in zip(record.samples.items, record.samples.rows, strict=True)
    }
    counts = [(len(record.samples), record.ledger, record.shape) for record in records]
    total = sum(count for count, _, _ in counts)
    return Counted(
        rows,
        {record.task: record.parameters for record in records},
        sum(mean_entering(ledger) * count for count, ledger, _ in counts) / total,
        sum(mean_prefill_flops(ledger, shape) * count for count, ledger, shape in counts) / total,
    )


def timed(cell: TimedCell, record: EfficiencyRecord) -> Counted:
    """The counts of a cell of an efficiency record."""
    return Counted(
        {f"row {index}": row for index, row in enumerate(cell.ledger)},
        {"": cell.parameters},
        mean_entering(cell.ledger),
        mean_prefill_flops(cell.ledger, record.shape),
    )


def counted_findings(
    cell: str, before: Counted, after: Counted, prefix: str = ""
) -> Iterator[Finding]:
    """Tokens and KV rows of every layer, FLOPs, parameters."""
    yield _layers(cell, f"{prefix}tokens", before, after, lambda row: row.entering)
    yield _layers(cell, f"{prefix}KV rows", before, after, lambda row: row.cached)
    yield exact(cell, f"{prefix}FLOPs", before.flops, after.flops)
    yield _parameters(cell, f"{prefix}parameters", before.parameters, after.parameters)


def sample_findings(cell: str, pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Selections and answers of every question, where the same program would give them again."""
    place = next(filter(None, (_place(pair) for pair in pairs)), "")
    before, after = ([pair.before for pair in pairs], [pair.after for pair in pairs])
    for quantity, of in (("selections", _selected), ("answers", _answers)):
        theirs, ours = of(before), of(after)
        if quantity == "selections" and not any(theirs.values()):
            continue
        if place:
            yield not_comparable(cell, quantity, Kind.EXACT, place)
        else:
            yield _sampled(cell, quantity, theirs, ours)


def exact(
    cell: str, quantity: str, before: float | str, after: float | str, why: str = ""
) -> Finding:
    """One finding by equality."""
    verdict = Verdict.SAME if before == after else Verdict.WORSE
    return Finding(cell, quantity, Kind.EXACT, verdict, before, after, why=why)


def _selected(records: Sequence[AccuracyRecord]) -> dict[str, Parts]:
    """By item, digest of what each stage kept and merged; a baseline holds only these."""
    return {
        item: {_stage(kept): kept.digest for kept in selections}
        for record in records
        for item, selections in zip(record.samples.items, record.samples.selections, strict=True)
    }


def _stage(kept: Selection) -> str:
    place = "in the tower" if kept.layer is None else f"before layer {kept.layer}"
    segment = f" of image {kept.segment}" if kept.segment else ""
    return f"stage {kept.stage} {place}{segment}"


def _answers(records: Sequence[AccuracyRecord]) -> dict[str, Parts]:
    return {
        item: {"answer": answer}
        for record in records
        for item, answer in zip(record.samples.items, record.samples.answers, strict=True)
    }


def _place(pair: Pair) -> str:
    versions = version_differences(pair.before, pair.after)
    return versions[0] if versions else place_difference(pair.before, pair.after)


def _sampled(
    cell: str, quantity: str, theirs: Mapping[str, Parts], ours: Mapping[str, Parts]
) -> Finding:
    other = [item for item in theirs if theirs[item] != ours.get(item)]
    why = ""
    if other:
        parts, now = theirs[other[0]], ours.get(other[0], {})
        part = next((name for name in parts if parts[name] != now.get(name)), "stages")
        why = f"{part}: " if quantity == "selections" else ""
        why += f"{len(other)} of {len(theirs)} questions, first {other[0]}"
    return exact(cell, quantity, json_digest(theirs), json_digest(ours), why)


def _layers(
    cell: str,
    quantity: str,
    before: Counted,
    after: Counted,
    column: Callable[[LedgerRow], Sequence[int]],
) -> Finding:
    """Means over layers and samples as `before` and `after`; the first layer that differs."""
    theirs, ours = (
        {item: column(row) for item, row in side.rows.items()} for side in (before, after)
    )
    why = _first_layer(theirs, ours)
    verdict = Verdict.WORSE if why else Verdict.SAME
    return Finding(cell, quantity, Kind.EXACT, verdict, _mean(theirs), _mean(ours), why=why)


def _first_layer(before: Mapping[str, Sequence[int]], after: Mapping[str, Sequence[int]]) -> str:
    other = [item for item in before if before[item] != after.get(item)]
    if not other:
        return ""
    theirs, ours = before[other[0]], after.get(other[0], [])
    many = f"{len(other)} of {len(before)} questions"
    if len(theirs) != len(ours):
        return f"{len(theirs)} → {len(ours)} layers in {many}"
    layer = next(i for i, count in enumerate(theirs) if count != ours[i])
    layers = sum(a != b for a, b in zip(theirs, ours, strict=True))
    others = f" and {layers - 1} more" if layers > 1 else ""
    return f"layer {layer}{others}: {theirs[layer]} → {ours[layer]} in {many}"


def _mean(rows: Mapping[str, Sequence[int]]) -> float:
    return sum(sum(row) / len(row) for row in rows.values()) / len(rows)


def _parameters(
    cell: str, quantity: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Finding:
    """By task; the first that differs, and its first parameter that does."""
    why = ""
    for task in before:
        theirs, ours = before[task], after.get(task, {})
        changed = [n for n in dict.fromkeys([*theirs, *ours]) if theirs.get(n) != ours.get(n)]
        if changed and not why:
            why = f"{changed[0]}: {theirs.get(changed[0])} → {ours.get(changed[0])}"
    return exact(cell, quantity, json_digest(before), json_digest(after), why)
