"""Options that commands share, and the words that options choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import BadInput

OUTPUT = Path("results/local")

Device = Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:1`.")]
Dtype = Annotated[str, typer.Option(help="`auto`, `float32`, `bfloat16` or `float16`.")]
Attention = Annotated[str, typer.Option(help="`sdpa`, `eager` or `flash_attention_2`.")]
Repeats = Annotated[int, typer.Option(help="Rounds in which every cell is timed.")]
Seed = Annotated[int, typer.Option(help="Of `random`, of the timed input and order.")]
RecordsOutput = Annotated[
    Path, typer.Option("--output", "-o", help="Directory of the records and tables.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Measure again what the records already hold.")
]
Directories = Annotated[
    list[Path] | None, typer.Argument(help="Directories with records.", show_default=False)
]


def refuse(context: typer.Context, why: str, *names: str) -> None:
    """Raises BadInput if one of these parameters was given, although it has no effect `why`."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise BadInput(f"{parameter.opts[0]} has no effect {why}")
