"""What the user can mend, in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from harness.visible import visible


class BadInput(Exception):  # noqa: N818 - it names the cause, the user's input, not a program error
    """The message is one sentence: what was wrong, what is allowed, the nearest match.

    The command line prints it without a traceback and exits with 2.
    """


class ScoringError(RuntimeError):
    """All questions were answered and could not be scored; a record keeps what is `answered`."""

    def __init__(self, reason: str, answered: Mapping[str, Any]) -> None:
        super().__init__(f"scoring failed: {reason}")
        self.answered = answered


def sentence(text: object, longest: int = 300) -> str:
    """One line of at most `longest` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def unknown(kind: str, word: str, allowed: Iterable[str]) -> BadInput:
    """`word` is no `kind`: names the nearest of `allowed`, and all of them while they are few."""
    names = list(map(str, allowed))
    close = get_close_matches(word, names, n=1)
    parts = [f"unknown {kind} {word!r}"]
    if close:
        parts.append(f"did you mean {close[0]!r}?")
    if len(names) <= 20:
        parts.append(f"allowed: {', '.join(names)}")
    return BadInput("; ".join(parts))


def warn(line: str) -> None:
    """One line on standard error."""
    print(f"harness: {visible(line)}", file=sys.stderr, flush=True)


def cause(error: BaseException) -> str:
    """An exception with its notes, which name the stage of a method that raised it."""
    return "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Whatever a library raises here is the fault of what it was given: BadInput that says so."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{what}: {type(error).__name__}: {reason}") from error
