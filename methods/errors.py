"""What is refused, and how: one sentence that says what was wrong and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from traceback import extract_tb


class PruningError(ValueError):
    """Something the caller can mend; the message is one sentence."""


class MechanismError(PruningError):
    """What pruning is made of did not work with this model or release of transformers."""


class InfeasibleBudgetError(PruningError):
    """No setting of the method lets this many tokens enter a layer.

    `low` and `high` bound the whole budgets that can be met, inclusive; None where there is none.
    """

    def __init__(self, method: str, requested: float, low: int | None, high: int | None) -> None:
        self.low, self.high = low, high
        allowed = "no budget is feasible" if low is None else f"feasible is {low} to {high}"
        super().__init__(f"{method} cannot meet {requested:g} visual tokens a layer: {allowed}")


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The end of a sentence that refuses `word`: the nearest match and all that is allowed."""
    names = sorted(allowed)
    close = get_close_matches(word, names, n=1)
    return f"{f'; did you mean {close[0]!r}?' if close else ';'} allowed: {', '.join(names)}"


CAUGHT = (Exception, SystemExit)
"""What code of the user's own may raise; sys.exit would end the caller without a word."""


_NOT_OF_A_METHOD = (
    *("<", "site-packages", "dist-packages", str(Path(json.__file__).parent.parent)),
    *(str(Path(__file__).parent.parent / folder) for folder in ("methods", "harness")),
)
"""Parts of the paths of libraries, and of what calls methods."""


def told(error: BaseException) -> str:
    """An exception in one line, with its `place`."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place(error)}"


def place(error: BaseException) -> str:
    """File and line that a method's own code had come to; nothing where there is none."""
    frames = extract_tb(error.__traceback__)
    own = [at for at in frames if not any(part in at.filename for part in _NOT_OF_A_METHOD)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
