"""Quantities that a deterministic program gives again: any difference is a regression.

Counts, costs and parameters must be equal everywhere. What was selected and answered depends on
floating point, so that it is compared on equal versions and machines only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records.file import Record
from harness.records.ledger import mean_entering, mean_prefill_flops
from harness.regress.findings import Finding, Kind, Verdict, not_comparable
from harness.regress.sources import Pair, place_difference, version_differences

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Counted:
    """What one cell did to its samples: a ledger row and the parameters of each, by item."""

    rows: Mapping[str, Row]
    parameters: Mapping[str, Any]
    tokens: float
    flops: float


def answered(records: Sequence[Record]) -> Counted:
    """The counts of a cell's accuracy records, one a task."""
    samples = [(sample, record) for record in records for sample in record["samples"]]
    total = len(samples)
    return Counted(
        {str(sample["item"]): record["ledger"][sample["ledger"]] for sample, record in samples},
        {record["identity"]["task"]: record["parameters"] for record in records},
        sum(mean_entering(r["ledger"]) * len(r["samples"]) for r in records) / total,
        sum(mean_prefill_flops(r["ledger"], r["shape"]) * len(r["samples"]) for r in records)
        / total,
    )


def timed(cell: Row, record: Record) -> Counted:
    """The counts of a cell of an efficiency record."""
    return Counted(
        {f"row {index}": row for index, row in enumerate(cell["ledger"])},
        {"": cell["parameters"]},
        mean_entering(cell["ledger"]),
        mean_prefill_flops(cell["ledger"], record["shape"]),
    )


def counted_findings(
    cell: str, before: Counted, after: Counted, prefix: str = ""
) -> Iterator[Finding]:
    """Tokens and KV rows of every layer, FLOPs, parameters."""
    yield _layers(cell, f"{prefix}tokens", "entering", before, after)
    yield _layers(cell, f"{prefix}KV rows", "cached", before, after)
    yield exact(cell, f"{prefix}FLOPs", before.flops, after.flops)
    yield _parameters(cell, f"{prefix}parameters", before.parameters, after.parameters)


def sample_findings(cell: str, pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Selections and answers of every question, where the same program would give them again."""
    place = next(filter(None, (_place(pair) for pair in pairs)), "")
    before = _samples([pair.before for pair in pairs])
    after = _samples([pair.after for pair in pairs])
    for quantity, of in (("selections", selection_digests), ("answers", _answer)):
        if quantity == "selections" and not any(map(of, before.values())):
            continue
        if place:
            yield not_comparable(cell, quantity, Kind.EXACT, place)
        else:
            yield _sampled(cell, quantity, before, after, of)


def exact(
    cell: str, quantity: str, before: float | str, after: float | str, why: str = ""
) -> Finding:
    """One finding by equality."""
    verdict = Verdict.SAME if before == after else Verdict.WORSE
    return Finding(cell, quantity, Kind.EXACT, verdict, before, after, why=why)


def selection_digests(sample: Row) -> dict[str, str]:
    """Digest of what each stage kept and merged, by stage; a baseline holds only these."""
    return {
        _stage(kept): kept.get("digest") or _digest(_text(kept)) for kept in sample["selections"]
    }


def _stage(kept: Row) -> str:
    place = "in the tower" if kept["layer"] is None else f"before layer {kept['layer']}"
    segment = f" of image {kept['segment']}" if kept.get("segment") else ""
    return f"stage {kept['stage']} {place}{segment}"


def _answer(sample: Row) -> dict[str, str]:
    return {"answer": str(sample["answer"])}


def _samples(records: Sequence[Record]) -> dict[str, Row]:
    return {str(sample["item"]): sample for record in records for sample in record["samples"]}


def _place(pair: Pair) -> str:
    versions = version_differences(pair.before, pair.after)
    return versions[0] if versions else place_difference(pair.before, pair.after)


def _sampled(
    cell: str,
    quantity: str,
    before: Mapping[str, Row],
    after: Mapping[str, Row],
    of: Callable[[Row], Mapping[str, str]],
) -> Finding:
    theirs, ours = ({item: of(s) for item, s in side.items()} for side in (before, after))
    other = [item for item in theirs if theirs[item] != ours.get(item)]
    why = ""
    if other:
        parts, now = theirs[other[0]], ours.get(other[0], {})
        part = next((name for name in parts if parts[name] != now.get(name)), "stages")
        why = f"{part}: " if quantity == "selections" else ""
        why += f"{len(other)} of {len(theirs)} questions, first {other[0]}"
    return exact(cell, quantity, _digest(_text(theirs)), _digest(_text(ours)), why)


def _layers(cell: str, quantity: str, column: str, before: Counted, after: Counted) -> Finding:
    """Means over layers and samples as `before` and `after`; the first layer that differs."""
    theirs, ours = (
        {item: row[column] for item, row in side.rows.items()} for side in (before, after)
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


def _parameters(cell: str, quantity: str, before: Row, after: Row) -> Finding:
    """By task; the first that differs, and its first parameter that does."""
    why = ""
    for task in before:
        theirs, ours = before[task], after.get(task, {})
        changed = [n for n in dict.fromkeys([*theirs, *ours]) if theirs.get(n) != ours.get(n)]
        if changed and not why:
            why = f"{changed[0]}: {theirs.get(changed[0])} → {ours.get(changed[0])}"
    return exact(cell, quantity, _digest(_text(before)), _digest(_text(after)), why)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(text: str) -> str:
    """Ten hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
