"""The words that say how a table is written."""

from __future__ import annotations

from enum import StrEnum


class Intervals(StrEnum):
    """How the 95 % intervals over images are printed."""

    NONE = "none"
    PLUSMINUS = "plusminus"
    SMALL = "small"
