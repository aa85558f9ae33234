"""The identity of a record: what was asked of what. Which of its keys mean what is said only here.

Two records of one identity are one measurement. An identity may hold more than is named here: all
of it makes the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

OF_A_CELL = ("method", "method_file", "settings", "budget", "matched", "seed")
QUESTIONS = ("task_version", "documents", "frames")
"""Equal where the questions of a task are, and what is shown of their videos."""
OF_A_TASK = ("task", *QUESTIONS)
ASKED = ("protocol", "chat_template", "budget_per")
"""Where a model was not asked by its own template and processor, or a budget is not a sample's."""
CHOSEN = ("limit", "samples_per_task", "sample")
"""Which questions of every task: all, the first so many, or so many drawn by a seed."""
SAME_MODEL = ("model_digest", "dtype", "attention")
"""Equal where a time belongs to an answer."""
PLACED = ("model", *SAME_MODEL, "device", "batch_size")
TOLD_APART_BY = (*SAME_MODEL, "device", "batch_size", *CHOSEN, *ASKED)
"""What may differ between the configurations of one model, to name them by."""
AS_ASKED = (
    *("model", "device", *SAME_MODEL[1:], *CHOSEN, "budget_per", "frames", "repeats"),
    *("prompt_tokens", "new_tokens", "images", "most_minutes", "memory_gib"),
    "saturate_gib",
)
"""What is in an identity under the name that a request has for it."""
OF_A_RUN = (*AS_ASKED, "batch_size", "protocol")
"""What a command asks for beside methods, budgets and tasks."""
SAME_QUESTIONS = ("dtype", "attention", *CHOSEN, *ASKED)
"""Equal in all entries of a leaderboard's table, beside model and tasks. Code, versions, machine
and batch size may differ: every entry is held against unpruned of its own configuration.
"""
COMPARABLE = ("model_digest", "batch_size", "dtype", "attention", "seed")
"""Equal in both of two records that are compared."""
COMPARABLE_ANSWERS = (*COMPARABLE, *QUESTIONS, *CHOSEN, *ASKED)
COMPARABLE_TIMES = (*COMPARABLE, "new_tokens", "prompt", "frames")


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Hex SHA-256 of the identity as canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Identity:
    """`body` is all of it. None and empty is what it does not hold."""

    body: Mapping[str, Any] = field(repr=False)
    model: str
    model_digest: str
    dtype: str
    attention: str
    device: str
    batch_size: int
    seed: int
    code_digest: str
    versions: Mapping[str, str]
    protocol: str | None = None
    chat_template: str | None = None
    budget_per: str | None = None
    # of a cell's answers to a task
    task: str = ""
    task_version: str = ""
    documents: str | None = None
    frames: int | None = None
    limit: int | None = None
    samples_per_task: int | None = None
    sample: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    method_file: str = ""
    # of a run of timing
    cells: Sequence[str] = ()
    cell_identities: Sequence[Mapping[str, Any]] = ()
    new_tokens: int = 0
    prompt: str | None = None
    prompt_tokens: int = 0
    images: int = 0
    repeats: int | None = None
    most_minutes: float | None = None
    memory_gib: float | None = None
    saturate_gib: float | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Identity:
        known = {key: body[key] for key in _KEYS if key in body}
        return cls(body, **known)

    @cached_property
    def hash(self) -> str:
        return identity_hash(self.body)

    @cached_property
    def configuration(self) -> str:
        """Equal for two records of answers that may stand in one table."""
        shared = {k: v for k, v in self.body.items() if k not in (*OF_A_CELL, *OF_A_TASK)}
        return identity_hash(shared)

    @property
    def questions(self) -> str:
        """Equal where those of a task are: its version, which are asked if not all can be, and how
        many frames are shown if they show videos.
        """
        some = f" on questions {self.documents}" if self.documents else ""
        shown = f" of {self.frames} frames" if self.frames else ""
        return self.task_version + some + shown

    def values(self, keys: Iterable[str]) -> tuple[Any, ...]:
        return tuple(getattr(self, key) for key in keys)

    def differing(self, other: Identity, keys: Iterable[str]) -> Iterator[str]:
        """Those of the keys in which the two differ."""
        return (key for key in keys if getattr(self, key) != getattr(other, key))


_KEYS = tuple(known.name for known in fields(Identity) if known.name != "body")
