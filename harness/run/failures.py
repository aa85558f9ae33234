"""What goes wrong while a cell is measured, as a record holds it; plain, so that it travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import BadInput, ScoringError, sentence
from harness.records.cell import unmeasurable


@dataclass(frozen=True)
class Failure:
    """`result`: the cell's; `stops`: why nothing else can be right; `bad_input`: what ends the run
    as bad input, with nothing recorded.
    """

    result: Mapping[str, Any]
    stops: str | None = None
    bad_input: str | None = None

    def raise_bad_input(self) -> None:
        if self.bad_input is not None:
            raise BadInput(self.bad_input)


def failed(reason: str) -> dict[str, Any]:
    return {"status": "failed", "reason": reason}


def not_kept(wrong: str) -> str:
    return f"no record can hold what was measured: {wrong}"


class FailedElsewhere(Exception):  # noqa: N818 - as the failure is
    """Another process's failure, which has become this one's."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.result["reason"])
        self.failure = failure


def failure_of(error: Exception) -> Failure:
    """Whatever it is, it becomes the cells' result and is shown."""
    from methods.interface import MechanismError  # after the cell has run: it imports torch

    if isinstance(error, FailedElsewhere):
        return error.failure
    if isinstance(error, BadInput):
        return Failure(failed(str(error)), bad_input=str(error))
    if isinstance(error, ScoringError):  # what was answered is kept, to be scored again
        return Failure({**error.answered, **failed(sentence(error))})
    broken_off = failed(f"{type(error).__name__}: {sentence(error)}")
    stops = sentence(error) if isinstance(error, MechanismError) else None
    return Failure(unmeasurable(error) or broken_off, stops)
