"""Questions of a task drawn by image, so that what belongs to one image stays together."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from random import Random
from typing import Any

from harness.accuracy.lmms.evaluation import side_effects_undone
from harness.errors import BadInput, cause

AT_ONCE = 64
"""Rows whose encoded images are in memory together."""


@dataclass(frozen=True)
class Draw:
    """`samples_per_task` questions of each task, by the seed `sample`; all where it has fewer."""

    samples_per_task: int
    sample: int = 0

    def identity(self) -> dict[str, int]:
        """What a record's identity holds of it."""
        return {"samples_per_task": self.samples_per_task, "sample": self.sample}

    def documents(self, task: str, images: Sequence[str]) -> list[int]:
        """Of documents whose images are `images`, in order.

        Depends on the task's name and data and the seed alone: a larger draw holds a smaller one.
        All questions of a drawn image come along, but only the first that are needed of the last.
        """
        about: dict[str, list[int]] = {}
        for document, image in enumerate(images):
            about.setdefault(image, []).append(document)
        drawn = list(about.values())
        Random(f"{task} {self.sample}").shuffle(drawn)
        return sorted(islice(chain.from_iterable(drawn), self.samples_per_task))


def chosen(name: str, task: Any, limit: int | None, draw: Draw | None) -> Sequence[int]:
    """The documents that the draw draws, or the first so many, or all.

    Raises BadInput for a task whose images cannot be read.
    """
    if draw is None:
        return range(min(limit or sys.maxsize, len(task.eval_docs)))
    try:
        with side_effects_undone():
            return draw.documents(name, images_of(task))
    except (Exception, SystemExit) as error:  # tasks end the process where a video is missing
        raise BadInput(f"the images of task {name!r} cannot be read: {cause(error)}") from error


def images_of(task: Any) -> list[str]:
    """What tells the images of each document from others': undecoded where the task's table holds
    them, else as the task shows them. A document without images is like no other.
    """
    from datasets.features.features import require_decoding

    table = task.eval_docs
    held = [name for name, feature in table.features.items() if require_decoding(feature)]
    found = _in_table(table.select_columns(held)) if held else _shown(task)
    return [digest or f"document {i}" for i, digest in enumerate(found)]


def images_as_held(task: Any) -> list[str]:
    """The same in seconds, as far as the task's table tells without an image being decoded: where
    it holds none, by what else it calls an image or a video.
    """
    from datasets.features.features import require_decoding

    table = task.eval_docs
    if any(map(require_decoding, table.features.values())):
        return images_of(task)
    named = [n for n in table.features if "image" in n.lower() or "video" in n.lower()]
    columns = [table[name] for name in named] or [range(len(table))]
    return [str(row) for row in zip(*columns, strict=True)]


def _in_table(table: Any) -> Iterator[str]:
    for part in table.with_format("arrow").iter(AT_ONCE):
        yield from map(_digest, map(_encoded, part.to_pylist()))


def _shown(task: Any) -> Iterator[str]:
    for document in task.eval_docs:
        images = task.doc_to_visual(document) or []
        yield _digest(i.encode() if isinstance(i, str) else i.tobytes() for i in images)


def _digest(images: Iterable[bytes]) -> str:
    return "+".join(sha256(image).hexdigest()[:16] for image in images)


def _encoded(value: Any) -> Iterator[bytes]:
    """All images in a row, or in a part of it: a file's bytes, or its path where it has none."""
    if isinstance(value, Mapping) and value.keys() == {"bytes", "path"}:
        yield value["bytes"] or value["path"].encode()
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _encoded(part)
