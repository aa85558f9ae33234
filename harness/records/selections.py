"""What each stage kept, as records hold it: plain integers and hexadecimal masks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from methods.trace import Prefill, StageSelection


@dataclass(frozen=True, slots=True)
class Selection:
    """What a stage kept of one sample; `layer` is None inside the tower, `segment` the image of
    several, `kept` a `mask` of the `rows` that it saw, and `groups` the output row of each, -1 for
    none, where rows were merged. A baseline has only a digest: there `kept` is None.
    """

    stage: str
    layer: int | None
    segment: int | None
    rows: int
    kept: str | None
    groups: Sequence[int] | None
    _body: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Selection:
        get = body.get
        return cls(
            body["stage"],
            get("layer"),
            get("segment"),
            get("rows", 0),
            get("kept"),
            get("groups"),
            body,
        )

    @property
    def count(self) -> int:
        """How many rows it kept, merged ones as one each."""
        return len(rows_of(self.kept or ""))

    @property
    def digest(self) -> str:
        """Of all that was kept and merged, ten hexadecimal digits; what a baseline holds."""
        return self._body.get("digest") or json_digest(self._body)


def json_digest(value: object) -> str:
    """Ten hexadecimal digits, of the value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def selections_of(prefill: Prefill) -> list[list[dict[str, Any]]]:
    """For each sample, in the order of the stages: what was kept of the rows that the stage saw.

    "kept" is `mask` of the anchors; "groups" (the output row that each
    row went into, -1 for none) is there only where rows are merged.
    """
    counts = [sizes.tokens for sizes in prefill.sizes]
    found: list[list[dict[str, Any]]] = [[] for _ in counts]
    from_tower = [0] * len(counts)
    for selection in prefill.selections:
        for i, row in enumerate(selection.rows):
            seen = counts[row] if selection.saw is None else selection.saw
            found[row].append(_kept(selection, i, seen))
            out = selection.cut.anchors.shape[1]
            if selection.layer is None:
                from_tower[row] += out
            counts[row] = from_tower[row] if selection.layer is None else out
    return found


def _kept(selection: StageSelection, i: int, rows: int) -> dict[str, Any]:
    cut = selection.cut
    kept: dict[str, Any] = {
        "stage": selection.stage,
        "layer": selection.layer,
        "segment": selection.segment,
        "kept": mask(cut.anchors[i].tolist(), rows),
        "rows": rows,
    }
    if cut.groups is not None:
        kept["groups"] = cut.groups[i].tolist()
    return kept


def mask(indices: Sequence[int], rows: int) -> str:
    """Hexadecimal bytes; row r is bit r % 8, lowest first, of byte r // 8."""
    bits = np.zeros(rows, np.uint8)
    bits[list(indices)] = 1
    return np.packbits(bits, bitorder="little").tobytes().hex()


def rows_of(text: str) -> list[int]:
    """Inverse of `mask`: the rows whose bit is set, rising."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), bitorder="little")
    return np.flatnonzero(bits).tolist()
