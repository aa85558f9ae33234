"""The releases of transformers on which the methods' tests have run."""

from __future__ import annotations

TESTED = ("5.17.0", "5.18.0", "5.19.0", "5.20.2", "5.21.1", "5.22.2", "5.23.0", "5.24.0")
"""Oldest first. After a run on another: extend this and the bounds in pyproject.toml."""


def tested_transformers() -> str:
    """The range as a sentence names it: `5.17 to 5.24`."""
    oldest, newest = (version.rpartition(".")[0] for version in (TESTED[0], TESTED[-1]))
    return f"{oldest} to {newest}"
