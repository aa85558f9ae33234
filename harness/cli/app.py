"""The command line. Only `compare` loads a model; what a command needs is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import records as cli_records
from harness.cli.options import (
    OUTPUT,
    Attention,
    Device,
    Dtype,
    Fresh,
    RecordsOutput,
    Repeats,
    Seed,
    refuse,
)
from harness.cli.output import OutputLostError, guarded_output
from harness.errors import BadInput, warn
from harness.records.cell import UNPRUNED

BAD_INPUT = 2
BROKEN_PIPE = 141
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # its base has no public name

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


class Listed(StrEnum):
    """What `harness list` lists."""

    METHODS = "methods"
    MODELS = "models"
    TASKS = "tasks"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"harness {version('visual-token-pruning')}")
        raise typer.Exit


@app.callback()
def _about(
    version_: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Visual token pruning methods, compared at matched and counted budgets.

    A budget is the mean number of visual tokens that enter a decoder layer.
    """


@app.command()
def compare(
    context: typer.Context,
    methods: Annotated[
        str,
        typer.Option(
            help="Names, or `all`; with settings: `sparsevlm:variant=plus`. "
            "Unpruned always runs first."
        ),
    ] = "vitcop,fastv",
    budgets: Annotated[
        str, typer.Option(help="Visual tokens a layer, each from 1 to the image's tokens.")
    ] = "192,128,64",
    match: Annotated[
        str,
        typer.Option(
            help="What a budget fixes: `tokens` a layer, or `flops`, the prefill FLOPs (selection "
            "counted) of so many tokens in every layer."
        ),
    ] = "tokens",
    model: Annotated[
        str,
        typer.Option(
            help="`embedded`, `tiny`, the directory of a checkpoint, or ORG/NAME[@REVISION] as on "
            "the Hugging Face hub, from its cache where that is not reached."
        ),
    ] = "embedded",
    tasks: Annotated[
        str, typer.Option(help="`embedded` for its five, or names of any lmms-eval tasks.")
    ] = "embedded",
    suite: Annotated[
        str | None,
        typer.Option(help="A set of tasks, in place of --tasks; `harness list tasks` has them."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Questions a task, the first ones; all if not given.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Questions answered at once.")] = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    attention: Attention = "sdpa",
    protocol: Annotated[
        str,
        typer.Option(
            help="`hf`: the checkpoint's own chat template and processor. `llava`: prompt and "
            "padded images of LLaVA-1.5's own code, as in published figures."
        ),
    ] = "hf",
    chat_template: Annotated[
        Path | None, typer.Option(help="A Jinja file instead of the checkpoint's chat template.")
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Also `uniform`, and `random` with five seeds.")
    ] = False,
    no_accuracy: Annotated[
        bool, typer.Option("--no-accuracy", help="Do not answer questions.")
    ] = False,
    no_efficiency: Annotated[
        bool, typer.Option("--no-efficiency", help="Do not measure time and memory.")
    ] = False,
    repeats: Repeats = 10,
    seed: Seed = 0,
    output: RecordsOutput = OUTPUT,
    fresh: Fresh = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also write `report.html` beside the records.")
    ] = False,
) -> int:
    """Compare methods on accuracy and efficiency, and print both tables.

    Each finished piece of work is kept as a record; after an interruption the same command goes
    on from there. Exit status: 0, 1 if a cell failed, 2 for bad input, 130 after Ctrl-C.

    **Examples**

    `harness compare --limit 50`

    `harness compare --methods vitcop,fastv --budgets 192,128,64 --controls`

    `harness compare --model path/to/llava-1.5-7b-hf --tasks pope,gqa --batch-size 8`

    `harness compare --no-accuracy --repeats 100 --device cuda`
    """
    from harness.records.task_metrics import suite as tasks_of_suite
    from harness.run.compare import compare as run
    from harness.run.request import read_request
    from methods.interface import PruningError

    if no_accuracy:
        refuse(
            context, "with --no-accuracy", "tasks", "suite", "limit", "protocol", "chat_template"
        )
    if suite is not None:
        refuse(context, "with --suite", "tasks")
    if no_efficiency:
        refuse(context, "with --no-efficiency", "repeats")
    if methods.strip() == UNPRUNED and not controls:
        refuse(context, "without a method that prunes", "budgets", "match")
    try:
        return run(
            read_request(
                methods=methods,
                budgets=budgets,
                match=match,
                model=model,
                tasks=tasks if suite is None else ",".join(tasks_of_suite(suite)),
                limit=limit,
                batch_size=batch_size,
                device=device,
                dtype=dtype,
                attention=attention,
                protocol=protocol,
                chat_template=chat_template,
                controls=controls,
                accuracy=not no_accuracy,
                efficiency=not no_efficiency,
                repeats=repeats,
                seed=seed,
                output=output,
                fresh=fresh,
                report=report,
            )
        )
    except PruningError as error:
        raise BadInput(str(error)) from error


@app.command()
def efficiency(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(help="A preset such as `random:llava-1.5-7b`, or as in `harness compare`."),
    ] = "random:llava-1.5-7b",
    methods: Annotated[
        str, typer.Option(help="Names, or `all`. Unpruned always runs, too.")
    ] = "all",
    budgets: Annotated[
        str, typer.Option(help="Visual tokens a layer, each from 1 to the images' tokens.")
    ] = "192,128,64",
    batch_size: Annotated[
        str, typer.Option(help="Samples at once; a list makes one table each.")
    ] = "1,8",
    prompt_tokens: Annotated[int, typer.Option(help="Text tokens of the prompt.")] = 64,
    new_tokens: Annotated[int, typer.Option(help="Tokens of the answer.")] = 16,
    images: Annotated[
        int | None, typer.Option(help="Images a prompt; the model's own number if not given.")
    ] = None,
    repeats: Repeats = 20,
    minutes: Annotated[
        float | None,
        typer.Option(help="Begin no further round this long after the first step."),
    ] = None,
    find_max_batch: Annotated[
        float | None,
        typer.Option(help="Also find the largest batch that fits into so many GiB."),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    attention: Attention = "sdpa",
    allow_busy: Annotated[
        bool, typer.Option("--allow-busy", help="Measure on a busy or slowed GPU all the same.")
    ] = False,
    seed: Seed = 0,
    output: RecordsOutput = OUTPUT,
    fresh: Fresh = False,
) -> int:
    """Measure time and memory by phase, beside what the device allows; needs no lmms-eval.

    Each batch size is one record; after an interruption the same command goes on from there. Exit
    status: 0, 1 if a cell failed, 2 for bad input, 130 after Ctrl-C.

    **Examples**

    `harness efficiency --model random:llava-1.5-7b --budgets 192,128,64 --batch-size 1,8`

    `harness efficiency --model random:llava-1.5-7b-eighth --device cpu --batch-size 1`
    """
    from harness.run.efficiency import Extent, check_extent, parse_batch_sizes
    from harness.run.efficiency import efficiency as run
    from harness.run.request import read_request
    from methods.interface import PruningError

    if device == "cpu":
        refuse(context, "on a CPU", "allow_busy")
    if methods.strip() == UNPRUNED:
        refuse(context, "without a method that prunes", "budgets")
    sizes = parse_batch_sizes(batch_size)
    try:
        request = read_request(
            methods=methods,
            budgets=budgets,
            model=model,
            tasks="embedded",
            limit=None,
            batch_size=sizes[0],
            device=device,
            dtype=dtype,
            attention=attention,
            controls=False,
            accuracy=False,
            efficiency=True,
            repeats=repeats,
            seed=seed,
            output=output,
            fresh=fresh,
        )
        extent = Extent(
            sizes, prompt_tokens, new_tokens, images, allow_busy, find_max_batch, minutes
        )
        return run(request, check_extent(extent))
    except PruningError as error:
        raise BadInput(str(error)) from error


app.command()(cli_records.table)
app.command()(cli_records.report)
app.command(name="show")(cli_records.show)
app.command()(cli_records.rescore)
app.command()(cli_records.regress)


@app.command(name="list")
def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """List methods, models or tasks."""
    from harness.cli import listing
    from harness.tables.terminal import show

    tables = {
        Listed.METHODS: listing.methods_tables,
        Listed.MODELS: listing.models_tables,
        Listed.TASKS: listing.tasks_tables,
    }
    show(tables[what](), sys.stdout)


@app.command()
def data(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write to.")],
) -> None:
    """Write the embedded benchmark as parquet and YAML, for lmms-eval's `--include_path`.

    **Example**

    `harness data -o benchmark && python -m lmms_eval --include_path benchmark --tasks embedded …`
    """
    from harness.embedded import benchmark
    from harness.run.request import check_output

    check_output(output)
    try:
        benchmark.write(output)
    except ValueError as error:
        raise BadInput(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: exit status; what the user can mend is one sentence and status 2.

    A reader of the output that goes away, such as `head`, gives 141, as everywhere.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with guarded_output():
            return int(app(given or ["--help"], prog_name="harness", standalone_mode=False) or 0)
    except (_UsageError, BadInput) as error:
        sentence = str(error) if isinstance(error, BadInput) else error.format_message()
        warn(" ".join(sentence.split()))
        return BAD_INPUT
    except OSError as error:  # of a path that was given: too long, or in a closed directory
        if error.filename is None:
            raise
        warn(f"{error.strerror}: {error.filename}")
        return BAD_INPUT
    except OutputLostError as error:
        if error.closed:
            return BROKEN_PIPE
        warn(str(error))
        return BAD_INPUT
