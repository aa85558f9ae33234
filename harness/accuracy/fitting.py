"""Which questions all cells can be asked: a budget may be too small for several images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from harness.accuracy.rehearsal import shown_of
from harness.errors import BadInput
from harness.records.cell import Cell, budget_of, unmeasurable
from methods import PruningError, Sizes

AT_ONCE = 256
"""Rows whose images are counted together."""

Refusal = Callable[[Cell, int], str | None]
"""Why a cell cannot be asked about so many images; None where it can."""


def refusal(sizes_of: Callable[[int], Sizes | None], per_image: bool) -> Refusal:
    """By the methods' plans; `sizes_of`: those of a sample with so many images, None where they
    depend on the images, which refuses nothing; `per_image`: whether a budget is each image's.
    """

    def refused(cell: Cell, images: int) -> str | None:
        shown = max(images, 1)
        sizes = sizes_of(shown)
        if sizes is None:
            return None
        try:
            cell.method.build().plan(budget_of(cell, shown if per_image else 1), sizes)
        except PruningError as error:
            if unmeasurable(error) is None:
                raise
            return str(error)
        return None

    return refused


@dataclass(frozen=True)
class LeftOut:
    """`kept`: the documents that every cell is asked about, `of` how many, and why not all."""

    kept: Sequence[int]
    of: int
    why: str

    def identity(self) -> dict[str, str]:
        """What a record's identity holds of it."""
        return {"documents": sha256(",".join(map(str, self.kept)).encode()).hexdigest()[:16]}

    def body(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"questions": self.of - len(self.kept), "of": self.of, "why": self.why}


def left_out(images: Mapping[int, int], cells: Sequence[Cell], refusal: Refusal) -> LeftOut | None:
    """None where every cell can be asked about every document.

    `images`: how many each shows. A cell that can be asked about none is infeasible itself and
    takes none from the others; nor does any where nothing would be left.
    """
    numbers = sorted(set(images.values()))
    refused: dict[int, str] = {}
    for cell in cells:
        own = {number: why for number in numbers if (why := refusal(cell, number))}
        if len(own) < len(numbers):
            refused = {**own, **refused}
    kept = [document for document, number in images.items() if number not in refused]
    if not (refused and kept):
        return None
    fewest = min(refused)
    return LeftOut(kept, len(images), f"with {fewest} images {refused[fewest]}")


def check_some_fit(task: str, images: int, cells: Sequence[Cell], refusal: Refusal) -> None:
    """Raises BadInput where every pruned cell refuses questions with so many images."""
    refused = [why for cell in cells if (why := refusal(cell, images))]
    if refused and len(refused) == sum(cell.budget is not None for cell in cells):
        raise BadInput(f"task {task!r} has questions with {images} images: {refused[0]}")


def images_shown_by(name: str, task: Any, documents: Sequence[int]) -> dict[int, int]:
    """How many images the question about each document shows, none of them decoded where its row
    of the table has one at most. Raises BadInput for what cannot be asked.
    """
    held = _images_held(task.eval_docs)
    known = {document: held[document] for document in documents if held and held[document] <= 1}
    others = [document for document in documents if document not in known]
    shown = (found.number for found in shown_of(name, task, others))
    counted = {**known, **dict(zip(others, shown, strict=True))}
    return {document: counted[document] for document in documents}


def _images_held(table: Any) -> list[int]:
    """In each row of the task's table; empty where it holds no images at all."""
    from datasets.features.features import require_decoding

    columns = [name for name, feature in table.features.items() if require_decoding(feature)]
    if not columns:
        return []
    parts = table.select_columns(columns).with_format("arrow").iter(AT_ONCE)
    return [sum(row) for part in parts for row in zip(*map(_counts, part.columns), strict=True)]


def _counts(column: Any) -> list[int]:
    """Images in each row: of a list its length, else one where there is any."""
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
        return compute.fill_null(compute.list_value_length(column), 0).to_pylist()
    return [int(there) for there in compute.is_valid(column).to_pylist()]
