"""The command that makes the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import OUTPUT, Directories
from harness.errors import warn


def leaderboard(
    directories: Directories = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path(
        "index.html"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the page.")] = False,
) -> None:
    """Write one HTML page that ranks the methods of many record sets, each against unpruned.

    Refused, with exit status 2, is a set whose counts broke their promise, that has no unpruned
    run, or whose model or task is another under the same name.

    **Example**

    `harness leaderboard results/first results/methods -o index.html`
    """
    from harness.tables.board import write_board

    write_board(list(dict.fromkeys(directories or [OUTPUT])), output, warn, force)
