"""Items to look at: the image, what each method kept of it, and what the model answered."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records.cell import Cell
from harness.records.file import Record
from harness.tables.page.images import asked, jpeg
from harness.tables.page.overlay import overlay, patches, png

ITEMS = 24

Sample = Mapping[str, Any]
ItemKey = tuple[str, str]


@dataclass(frozen=True)
class Shown:
    """One method's view of an item at a budget."""

    method: str
    label: str
    budget: int
    answer: str
    verdict: str
    overlay: str
    description: str


@dataclass(frozen=True)
class Item:
    """`image` and the overlays are data URIs; `disagree`: budgets at which scores differ."""

    number: int
    task: str
    item: str
    question: str
    target: str
    answer: str
    verdict: str
    image: str
    disagree: tuple[int, ...]
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class _Row:
    record: Record
    cell: Cell
    samples: Mapping[str, Sample]


def gallery(records: Sequence[Record], most: int = ITEMS) -> tuple[list[Item], list[str]]:
    """Items of every task whose images can be had, and the tasks that have none.

    Mostly those over which methods disagree, and of each task one over which they do not.
    """
    by_task: dict[str, list[_Row]] = {}
    for record in records:
        cell = Cell.parse(record["cell"])
        if record["status"] == "ok" and not cell.seed:
            samples = {str(sample["item"]): sample for sample in record["samples"]}
            by_task.setdefault(record["identity"]["task"], []).append(_Row(record, cell, samples))
    items: list[Item] = []
    without = []
    for task, rows in sorted(by_task.items()):
        rows.sort(key=lambda row: row.cell.order)
        chosen = list(_chosen(rows, max(most // len(by_task), 2)))
        found = [_item(len(items) + i, task, key, rows) for i, key in enumerate(chosen)]
        items += [item for item in found if item is not None]
        without += [task] * (not any(found))
    return items, without


def _chosen(rows: Sequence[_Row], most: int) -> Iterator[str]:
    """The items on which right and wrong are most even at the smallest budget; then one other."""
    budgets = [row.cell.budget for row in rows if row.cell.budget]
    tried = [row for row in rows if row.cell.budget == min(budgets, default=None)]
    items = [item for item in rows[0].samples if all(item in row.samples for row in tried)]
    spread = {}
    for item in items:
        scores = [row.samples[item]["score"] for row in tried]
        wrong = sum(score < max(scores) for score in scores) if scores else 0
        spread[item] = min(wrong, len(scores) - wrong)
    divided = sorted((i for i in items if spread[i]), key=lambda i: -spread[i])[: most - 1]
    yield from divided
    yield from [item for item in items if not spread[item]][: most - len(divided)]


def _item(number: int, task: str, key: str, rows: Sequence[_Row]) -> Item | None:
    samples = [(row, row.samples[key]) for row in rows if key in row.samples]
    whole = next((sample for row, sample in samples if row.cell.budget is None), None)
    first = whole or samples[0][1]
    known = asked(task, key, str(first["image"]))
    if known is None:
        return None
    shown = tuple(s for row, sample in samples if (s := _shown(row, sample)) is not None)
    budgets = sorted({s.budget for s in shown}, reverse=True)
    return Item(
        number,
        task,
        key,
        known.question,
        str(first["target"]),
        str(whole["answer"]) if whole else "",
        verdict(whole["score"]) if whole else "",
        _data_uri(jpeg(known.image), "jpeg"),
        tuple(b for b in budgets if len({s.verdict for s in shown if s.budget == b}) > 1),
        shown,
    )


def _shown(row: _Row, sample: Sample) -> Shown | None:
    if row.cell.budget is None:
        return None
    found = patches(sample["selections"], row.record["shape"]["image_tokens"])
    if found is None:
        return None
    label = " ".join(
        [row.record["method"]["label"], *(f"{k}={v}" for k, v in row.cell.method.settings)]
    )
    judged = verdict(sample["score"])
    kept, merged = int(found.kept.sum()), int(found.merged.sum())
    tokens = len(set(found.row[found.row >= 0].tolist()))
    description = (
        f"{label} at {row.cell.budget}: of {len(found.row)} patches {kept} kept, {merged} merged, "
        f"{len(found.row) - kept - merged} dropped, {tokens} tokens left; answer "
        f"{sample['answer']}, {judged}"
    )
    picture = _data_uri(png(overlay(found)), "png")
    name = row.cell.method.text
    return Shown(name, label, row.cell.budget, str(sample["answer"]), judged, picture, description)


def verdict(score: float) -> str:
    """`right`, `wrong`, or the score between."""
    return {0.0: "wrong", 1.0: "right"}.get(float(score), f"score {score:.2f}")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
