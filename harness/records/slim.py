"""Records as baselines keep them, a tenth of the bytes: without first tokens, and with digests of
what was selected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.records.record import AccuracyRecord, Record
from harness.records.selections import Selection

_KEPT = ("stage", "layer", "segment")


def slim(record: Record) -> Mapping[str, Any]:
    """What to write of a whole record."""
    if not isinstance(record, AccuracyRecord) or not len(record.samples):
        return record.body
    pairs = zip(record.body["samples"], record.samples.selections, strict=True)
    return {**record.body, "samples": [_slim(sample, selections) for sample, selections in pairs]}


def _slim(sample: Mapping[str, Any], selections: Sequence[Selection]) -> dict[str, Any]:
    kept = [
        {**{k: body[k] for k in _KEPT if k in body}, "digest": selection.digest}
        for body, selection in zip(sample["selections"], selections, strict=True)
    ]
    sample = {name: value for name, value in sample.items() if name != "grids"}
    return {**sample, "first_token": {}, "selections": kept}
