"""Items to look at: the image, what each method kept of it, and what the model answered."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.records.record import AccuracyRecord
from harness.tables.page.images import asked, jpeg
from harness.tables.page.overlay import overlay, png
from harness.tables.page.views import traced

ITEMS = 24


@dataclass(frozen=True)
class Shown:
    """One method's view of an item at a budget."""

    label: str
    budget: str
    answer: str
    verdict: str
    overlay: str
    description: str


@dataclass(frozen=True)
class Item:
    """`image` and the overlays are data URIs; `budgets` as they are labelled, from large to small,
    and `disagree` those at which scores differ.
    """

    number: int
    task: str
    item: str
    question: str
    target: str
    answer: str
    verdict: str
    image: str
    budgets: tuple[str, ...]
    disagree: tuple[str, ...]
    shown: tuple[Shown, ...]


def gallery(records: Sequence[AccuracyRecord], most: int = ITEMS) -> tuple[list[Item], list[str]]:
    """Items of every task whose images can be had, and the tasks that have none.

    Mostly those over which methods disagree, and of each task one over which they do not.
    """
    by_task: dict[str, list[AccuracyRecord]] = {}
    for record in records:
        if record.is_ok and not record.cell.seed:
            by_task.setdefault(record.task, []).append(record)
    items: list[Item] = []
    without = []
    for task, rows in sorted(by_task.items()):
        rows.sort(key=lambda record: record.cell.order)
        chosen = list(_chosen(rows, max(most // len(by_task), 2)))
        found = [_item(len(items) + i, task, key, rows) for i, key in enumerate(chosen)]
        items += [item for item in found if item is not None]
        without += [task] * (not any(found))
    return items, without


def _chosen(rows: Sequence[AccuracyRecord], most: int) -> Iterator[str]:
    """The items on which right and wrong are most even at the smallest budget; then one other."""
    pruned = [row for row in rows if not row.cell.is_unpruned]
    last = pruned[-1].cell.asked.amount if pruned else (None, False)
    tried = [row.samples for row in rows if row.cell.asked.amount == last]
    items = [i for i in rows[0].samples.items if all(i in samples.places for samples in tried)]
    spread = {}
    for item in items:
        found = (samples.scores[samples.places[item]] for samples in tried)
        scores = [score for score in found if score is not None]
        wrong = sum(score < max(scores) for score in scores)
        spread[item] = min(wrong, len(scores) - wrong)
    divided = sorted((i for i in items if spread[i]), key=lambda i: -spread[i])[: most - 1]
    yield from divided
    yield from [item for item in items if not spread[item]][: most - len(divided)]


def _item(number: int, task: str, key: str, rows: Sequence[AccuracyRecord]) -> Item | None:
    held = [(row, row.samples.places[key]) for row in rows if key in row.samples.places]
    whole = next(((row, place) for row, place in held if row.cell.is_unpruned), None)
    first, at = whole or held[0]
    known = asked(task, key, first.samples.images[at])
    if known is None:
        return None
    shown = tuple(s for row, place in held if (s := _shown(row, place)) is not None)
    budgets = tuple(dict.fromkeys(s.budget for s in shown))
    return Item(
        number,
        task,
        key,
        known.question,
        str(first.samples.targets[at]),
        first.samples.answers[at] if whole else "",
        verdict(first.samples.scores[at]) if whole else "",
        _data_uri(jpeg(known.image), "jpeg"),
        budgets,
        tuple(b for b in budgets if len({s.verdict for s in shown if s.budget == b}) > 1),
        shown,
    )


def _shown(row: AccuracyRecord, place: int) -> Shown | None:
    if row.cell.is_unpruned:
        return None
    samples = row.samples
    found = traced(row, place)
    if found is None:
        return None
    budget, answer = row.cell.asked.budget_label, samples.answers[place]
    judged = verdict(samples.scores[place])
    kept, merged = int(found.kept.sum()), int(found.merged.sum())
    tokens = len(set(found.row[found.row >= 0].tolist()))
    what = "patches" if row.image_tokens else "tokens"
    description = (
        f"{row.label} at {budget}: of {len(found.row)} {what} {kept} kept, {merged} merged, "
        f"{len(found.row) - kept - merged} dropped, {tokens} tokens left; answer "
        f"{answer}, {judged}"
    )
    picture = _data_uri(png(overlay(found)), "png")
    return Shown(row.label, budget, answer, judged, picture, description)


def verdict(score: float | None) -> str:
    """`right`, `wrong`, or the score between."""
    if score is None:
        return "no score of its own"
    return {0.0: "wrong", 1.0: "right"}.get(float(score), f"score {score:.2f}")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
