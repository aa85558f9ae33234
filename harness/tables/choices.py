"""The words that say which table is wanted, and how it is written."""

from __future__ import annotations

from enum import StrEnum


class Layout(StrEnum):
    """What a table has as rows and columns."""

    PAPER = "paper"
    ACCURACY = "accuracy"
    EFFICIENCY = "efficiency"
    LONG = "long"


class Format(StrEnum):
    """What a table is written as."""

    RICH = "rich"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    HTML = "html"


class Intervals(StrEnum):
    """How the 95 % intervals over images are printed."""

    NONE = "none"
    PLUSMINUS = "plusminus"
    SMALL = "small"
