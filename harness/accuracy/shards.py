"""A task's questions dealt into shards: the units of work, of keeping and of retry.

Which questions a shard has depends on the task alone, and batches are formed within shards: whoever
answers them, and however many do, the answers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.records.counted import distinct
from harness.records.samples import document_of

QUESTIONS = 512
"""Of a shard: minutes of work, and few enough files."""

Shard = tuple[int, ...]
"""lmms-eval's numbers of its documents, rising."""


def dealt(documents: Sequence[int], images: Sequence[str], most: int = QUESTIONS) -> list[Shard]:
    """Shards of at most `most` documents; `images`: what tells those of each from others'.

    Documents about the same images stay together, unless they alone are more than a shard.
    """
    shards: list[list[int]] = [[]]
    for group in _by_image(documents, images):
        for start in range(0, len(group), most):
            part = group[start : start + most]
            if len(shards[-1]) + len(part) > most:
                shards.append([])
            shards[-1] += part
    return [tuple(sorted(shard)) for shard in shards]


def _by_image(documents: Sequence[int], images: Sequence[str]) -> list[list[int]]:
    about: dict[str, list[int]] = {}
    for document, image in zip(documents, images, strict=True):
        about.setdefault(image, []).append(document)
    return list(about.values())


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What one process would keep of the answers of all these shards, in the documents' order."""
    found = sorted(_with_rows(parts), key=lambda pair: document_of(pair[0]))
    ledger, places = distinct([row for _, row in found])
    samples = [
        {**sample, "ledger": place} for (sample, _), place in zip(found, places, strict=True)
    ]
    seconds = sum(part["wall_seconds"] for part in parts)
    return {**parts[0], "ledger": ledger, "samples": samples, "wall_seconds": seconds}


def _with_rows(parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[dict, dict]]:
    """Each sample with its row of the ledger, without the number of samples that have it."""
    for part in parts:
        rows = [{k: v for k, v in row.items() if k != "samples"} for row in part["ledger"]]
        yield from ((sample, rows[sample["ledger"]]) for sample in part["samples"])
