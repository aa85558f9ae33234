"""Answers to a part of a task, kept until all parts are there: the files of `DIR/unfinished`.

Each is a record of answers that are not scored, whose identity is that of the whole record with the
shard's own beside it. It is written, checked and read as every record is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.records import file as records
from harness.records.record import AccuracyRecord
from harness.records.selections import json_digest

UNFINISHED = "unfinished"
ANSWERED = ("parameters", "shape", "ledger", "samples", "wall_seconds", "halved_to")
"""What is of the answers in a shard's body."""

Body = Mapping[str, Any]


class Shards:
    """The shards of one record that is not there yet; numbers are from 0.

    `outline`: what the record's body begins with, without a status; `shards`: the documents of
    each. A record of a single shard has no use for a file of its own.
    """

    def __init__(
        self,
        directory: Path,
        outline: Body,
        shards: Sequence[Sequence[int]],
        warn: Callable[[str], None],
    ) -> None:
        self.directory, self.documents = directory / UNFINISHED, shards
        self.questions = sum(map(len, shards))
        self._outlines = [_outline(outline, i, shards) for i in range(len(shards))]
        self._parts: dict[int, Body] = {}
        self.known = {i for i in self._there() if self._is_whole(i, warn)}

    def _there(self) -> list[int]:
        return [i for i in range(len(self._outlines)) if self._path(i).exists()]

    def _is_whole(self, number: int, warn: Callable[[str], None]) -> bool:
        found = list(records.readable([self._path(number)], warn))
        return any(r.identity.body == self._outlines[number]["identity"] for r in found)

    def _path(self, number: int) -> Path:
        return self.directory / records.file_name(self._outlines[number])

    @property
    def missing(self) -> list[int]:
        return [i for i in range(len(self._outlines)) if i not in self.known]

    @property
    def answered(self) -> int:
        """How many questions are."""
        return sum(len(self.documents[i]) for i in self.known)

    def add(self, number: int, part: Body, worker: str) -> None:
        """Keep the answers of a shard. Raises OSError."""
        origin = {"worker": worker} if worker else {}
        body = {**self._outlines[number], **part, "provenance": origin}
        if len(self.documents) > 1:
            records.write(self.directory, body)
        else:
            self._parts[number] = body
        self.known.add(number)

    def parts(self) -> list[Body]:
        """All of them, whole. Raises UnreadableRecordError and OSError."""
        numbers = range(len(self._outlines))
        return [self._parts.get(i) or records.read(self._path(i)).body for i in numbers]

    def forget(self) -> None:
        """Answer them all anew."""
        self.known.clear()

    def remove(self) -> None:
        """What is in a record now; and the directory where it holds nothing else."""
        for number in self._there():
            self._path(number).unlink()
        with suppress(OSError):
            self.directory.rmdir()


def _outline(outline: Body, number: int, shards: Sequence[Sequence[int]]) -> dict[str, Any]:
    documents, questions = shards[number], sum(map(len, shards))
    own = {"shard": number + 1, "shards": len(shards), "documents": json_digest(list(documents))}
    return {
        **outline,
        "identity": {**outline["identity"], **own},
        "status": "failed",
        "reason": f"{len(documents)} of {questions} questions answered, not scored yet",
        "questions": questions,
    }


def origin_of(parts: Sequence[Body]) -> dict[str, Any]:
    """What a record's origin says of its parts: who answered which shards, from 1, and the smallest
    batch that was left where the memory did not hold the batch asked for.
    """
    by_worker: dict[str, list[int]] = {}
    for number, part in enumerate(parts, 1):
        if worker := part["provenance"].get("worker"):
            by_worker.setdefault(worker, []).append(number)
    halved = [part["halved_to"] for part in parts if "halved_to" in part]
    return {
        **({"workers": by_worker} if by_worker else {}),
        **({"batch_halved_to": min(halved)} if halved else {}),
    }


@dataclass(frozen=True)
class Unfinished:
    """How far a cell is on a task that it has not finished."""

    cell: str
    task: str
    answered: int
    questions: int

    def __str__(self) -> str:
        done = f"{self.answered:,} of {self.questions:,}"
        return f"{self.cell} · {self.task}: {done} questions answered"


def unfinished(directory: Path, warn: Callable[[str], None]) -> Iterator[Unfinished]:
    """What was begun and has no record in the directory yet."""
    read = records.read_all([directory / UNFINISHED], warn)
    found = [record for record in read if isinstance(record, AccuracyRecord)]

    def key(record: AccuracyRecord) -> tuple[str, str]:
        return record.task, record.cell.text

    for (task, cell), group in groupby(sorted(found, key=key), key):
        shards = list(group)
        whole: Any = shards[0].body
        yield Unfinished(cell, task, sum(len(s.samples) for s in shards), whole["questions"])
