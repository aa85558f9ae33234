"""A prefill's counts as records hold them: one ledger row for all samples that are alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from harness.records.ledger import broken_promise, ledger_of
from harness.records.share import Share

if TYPE_CHECKING:
    from methods.encoding import Encoded
    from methods.interface import Budget, Method
    from methods.sizes import ModelShape, Sizes
    from methods.trace import Prefill


def ledgers_of(
    prefill: Prefill, shape: ModelShape, resized: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Of each sample: visual tokens that entered each layer, and its MLP where these are others; KV
    rows, planned tokens, and whether data decide how many enter which layer; its text;
    FLOPs of its selections, if no stage stands in a tower of unknown sizes; where its images were
    cut inside the tower, the rows of its layers; where images are of any size, FLOPs of the tower
    and the rows that are projected. `resized`: tokens of each sample's pictures as
    they were, where they were made smaller.
    """
    from methods.flops import selection_flops

    rows = _counted(prefill, resized)
    tower = prefill.tower_rows or [()] * len(rows)
    for row, plan, sizes, images in zip(rows, prefill.plans, prefill.sizes, tower, strict=True):
        encoded = () if shape.tower_rows else _encoded(prefill, sizes)
        if encoded:
            row["tower_flops"] = sum(own.tower_flops for own in encoded)
            row["projected"] = sum(own.projected for own in encoded)
        if not (shape.tower_rows or encoded) and (plan.encoder or plan.tower):
            continue
        entering = tuple(row["entering"]) if plan.by_data else ()
        row["selection_flops"] = selection_flops(
            plan, sizes, shape, row["text"], images, encoded, entering
        )
    return rows


def _encoded(prefill: Prefill, sizes: Sizes) -> tuple[Encoded, ...]:
    """What tower and projector computed for each segment of a sample; empty where not known."""
    found = [prefill.encoded(segment) for segment in sizes.segments]
    known = tuple(own for own in found if own is not None)
    return known if len(known) == len(found) else ()


def broken_promises(
    prefill: Prefill, method: Method, budget: Budget, resized: Sequence[int] = ()
) -> list[str | None]:
    """Of each sample, why its counts are not the budget's, by the rule of the tables, or None."""
    published = getattr(method, "schedule", None) == "published"
    cut = {row for selection in prefill.selections for row in selection.rows}
    asked: float | Share | None = budget.tokens
    if budget.fraction is not None and budget.fraction < 1:
        asked = Share(Fraction(budget.fraction).limit_denominator(10**6))
    return [
        broken_promise([row], asked, published, () if i in cut else (0,))
        for i, row in enumerate(ledger_of(_counted(prefill, resized)))
    ]


def _counted(prefill: Prefill, resized: Sequence[int]) -> list[dict[str, Any]]:
    columns = zip(
        prefill.entering.tolist(),
        prefill.cached.tolist(),
        prefill.planned.tolist(),
        prefill.text.tolist(),
        strict=True,
    )
    rows = [{"entering": e, "cached": c, "planned": p, "text": t} for e, c, p, t in columns]
    for row, sizes in zip(rows, prefill.sizes, strict=True):
        row["visual"] = sizes.tokens
    for row, plan, mlp in zip(rows, prefill.plans, prefill.into_mlp.tolist(), strict=True):
        if mlp != row["entering"]:
            row["mlp"] = mlp
        if plan.by_data:
            row["by_data"] = True
    for row, images in zip(rows, prefill.tower_rows or [()] * len(rows), strict=True):
        if images:
            row["tower"] = [[list(layer) for layer in image] for image in images]
    for row, tokens in zip(rows, resized, strict=bool(resized)):
        row |= {"visual": tokens, "resized": row["visual"]}
    return rows


def distinct(ledgers: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows that differ, each with the number of "samples" that have it; each sample's row."""
    texts = [json.dumps(ledger, sort_keys=True) for ledger in ledgers]
    rows = dict(zip(reversed(texts), reversed(ledgers), strict=True))
    counts = Counter(texts)
    places = {text: place for place, text in enumerate(counts)}
    return [{**rows[text], "samples": n} for text, n in counts.items()], [places[t] for t in texts]
