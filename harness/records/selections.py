"""What each stage kept, as records hold it: plain integers and hexadecimal masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from methods.trace import Prefill, StageSelection


def selections_of(prefill: Prefill, visual: Sequence[int], model: Any) -> list[list[dict]]:
    """For each sample, in the order of the stages: what was kept of the rows that the stage saw.

    `visual`: each sample's visual tokens before any cut. "kept" is `mask` of the anchors; "groups"
    (the output row that each row went into, -1 for none) is there only where rows are merged.
    """
    from methods.adapters import adapter_for

    tower_rows = adapter_for(model).shape().tower_rows
    found: list[list[dict]] = [[] for _ in visual]
    counts = list(visual)
    from_tower = [0] * len(counts)
    for selection in prefill.selections:
        for i, row in enumerate(selection.rows):
            seen = tower_rows if selection.layer is None else counts[row]
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
