"""Why rows have no numbers, in few lines below a table."""

from __future__ import annotations

from collections.abc import Iterable

_UNDEFINED = " is not defined here for "


def gathered(reasons: Iterable[tuple[str, str, str]]) -> list[str]:
    """Of labels, budgets and reasons: a line each, and one for all methods that are not defined
    for the same thing, whatever the budget.
    """
    lines: list[str] = []
    undefined: dict[str, dict[str, None]] = {}
    for label, budget, reason in reasons:
        _, found, what = reason.partition(_UNDEFINED)
        if found:
            undefined.setdefault(what, {})[label] = None
        else:
            lines.append(f"{label}, {budget}: {reason}")
    return lines + [f"Not defined for {what}: {', '.join(own)}" for what, own in undefined.items()]
