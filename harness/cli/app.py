"""The command line. Only `compare` loads a model; what a command needs is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Any

import typer

from harness.cli import options, words
from harness.cli import records as cli_records
from harness.cli.board import leaderboard
from harness.cli.options import OUTPUT, refuse
from harness.cli.output import OutputLostError, guarded_output
from harness.errors import BadInput, warn
from harness.records.identity import CHOSEN

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
    SUITES = "suites"


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
    methods: options.Methods = "vitcop,fastv",
    budgets: options.Budgets = "192,128,64",
    match: options.Matched = "tokens",
    budget_per: options.BudgetPer = "sample",
    model: options.Model = "embedded",
    tasks: options.Tasks = None,
    suite: options.Suite = None,
    limit: options.Limit = None,
    samples_per_task: options.SamplesPerTask = None,
    sample: options.Sample = 0,
    frames: options.Frames = 8,
    batch_size: options.BatchSize = 1,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attention: options.Attention = "sdpa",
    protocol: options.AskedBy = "hf",
    chat_template: options.ChatTemplate = None,
    controls: options.Controls = False,
    accuracy: options.Accuracy = True,
    efficiency: options.Efficiency = True,
    repeats: options.Repeats = 10,
    seed: options.Seed = 0,
    output: options.RecordsOutput = OUTPUT,
    fresh: options.Fresh = False,
    report: options.Report = False,
    workers: options.Workers = None,
    ray: options.RayAddress = None,
) -> int:
    """Compare methods on accuracy and efficiency, and print both tables.

    Each finished piece of work is kept as a record; after an interruption the same command goes
    on from there. Exit status: 0, 1 if a cell failed, 2 for bad input, 130 after Ctrl-C.

    **Examples**

    `harness compare --limit 50`

    `harness compare --methods vitcop,fastv --budgets 192,128,64 --controls`

    `harness compare --model path/to/llava-1.5-7b-hf --tasks pope,gqa --batch-size 8`

    `harness compare --no-accuracy --repeats 100 --device cuda`

    `harness compare --workers 8 --model path/to/llava-1.5-7b-hf --tasks pope,gqa`
    """
    from harness.analysis.told import told
    from harness.cli.results import finished
    from harness.models.protocols import protocol_of
    from harness.records.file import check_file
    from harness.run.compare import compared
    from harness.run.request import Request

    if not (accuracy or efficiency):
        raise BadInput("--no-accuracy with --no-efficiency leaves nothing to do; give one of them")
    if not accuracy:
        asked = (
            *("workers", "ray", "tasks", "suite", *CHOSEN, "budget_per"),
            *("frames", "protocol", "chat_template", "report"),
        )
        refuse(context, "with --no-accuracy", *asked)
    if suite is not None:
        refuse(context, "with --suite", "tasks")
        if suite.samples_per_task is not None:
            refuse(context, "with a suite whose questions are drawn", "limit")
            samples_per_task = samples_per_task or suite.samples_per_task
    if samples_per_task is None:
        refuse(context, "without --samples-per-task", "sample")
    if not efficiency:
        refuse(context, "with --no-efficiency", "repeats")
    chosen = suite.tasks if suite else tasks or words.tasks_for(model)
    videos = words.shows_videos(chosen)
    specs = words.parse_methods(methods, videos, controls)
    if not specs and not controls:
        refuse(context, "without a method that prunes", "budgets", "match", "budget_per")
    if report:
        check_file(output / "report.html", replace=True)
    request = Request(
        **_alike(context),
        methods=specs,
        tasks=chosen,
        timed_frames=(frames,) if videos else None,
        samples_per_task=samples_per_task,
        batch_sizes=(batch_size,),
        protocol=protocol_of(protocol, chat_template),
    )
    return finished(request, compared(request, told))


@app.command()
def efficiency(
    context: typer.Context,
    model: options.Model = "random:llava-1.5-7b",
    methods: options.Methods = "all",
    budgets: options.Budgets = "192,128,64",
    batch_sizes: options.BatchSizes = "1,8",
    prompt_tokens: options.PromptTokens = 64,
    new_tokens: options.NewTokens = 16,
    images: options.Images = None,
    timed_frames: options.TimedFrames = None,
    repeats: options.Repeats = 20,
    most_minutes: options.Minutes = None,
    memory_gib: options.FindMaxBatch = None,
    saturate_gib: options.Saturate = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attention: options.Attention = "sdpa",
    allow_busy: options.AllowBusy = False,
    seed: options.Seed = 0,
    output: options.RecordsOutput = OUTPUT,
    fresh: options.Fresh = False,
) -> int:
    """Measure time and memory by phase, beside what the device allows; needs no lmms-eval.

    Each batch size, with each number of frames, is one record; after an interruption the same
    command goes on from there. Exit status: 0, 1 if a cell failed, 2 for bad input, 130 after
    Ctrl-C.

    **Examples**

    `harness efficiency --model random:llava-1.5-7b --budgets 192,128,64 --batch-size 1,8`

    `harness efficiency --model random:llava-1.5-7b-eighth --device cpu --batch-size 1`

    `harness efficiency --model random:onevision-7b --methods vitcop,frames --budgets 9% --frames 8`
    """
    from harness.analysis.told import told
    from harness.cli.results import finished
    from harness.run.compare import compared
    from harness.run.request import Request

    if device == "cpu":
        refuse(context, "on a CPU", "allow_busy")
    specs = words.parse_methods(methods, bool(timed_frames))
    if not specs:
        refuse(context, "without a method that prunes", "budgets")
    if timed_frames:
        refuse(context, "with --frames", "images")
    request = Request(**_alike(context), methods=specs, accuracy=False)
    return finished(request, compared(request, told))


def _alike(context: typer.Context) -> dict[str, Any]:
    """The options of a command that its request has under the same name, with the same values."""
    from harness.run.request import Request

    differ = {"methods", "tasks", "samples_per_task", "protocol"}  # of two options each
    known = {field.name for field in fields(Request)} - differ
    return {name: value for name, value in context.params.items() if name in known}


app.command()(cli_records.table)
app.command()(cli_records.report)
app.command()(leaderboard)
app.command(name="show")(cli_records.show)
app.command()(cli_records.rescore)
app.command()(cli_records.regress)


@app.command(name="list")
def list_(
    what: Annotated[Listed, typer.Argument(help="What to list.")],
    wide: Annotated[bool, typer.Option("--wide", help="All columns, whatever the width.")] = False,
) -> None:
    """List methods, models, tasks or suites of tasks."""
    from harness.cli import listing, suites
    from harness.tables.brief import at_a_glance
    from harness.tables.terminal import show

    tables = {
        Listed.METHODS: listing.methods_tables,
        Listed.MODELS: listing.models_tables,
        Listed.TASKS: listing.tasks_tables,
        Listed.SUITES: suites.suites_tables,
    }
    found = tables[what]()
    show(found if wide else at_a_glance(found, sys.stdout), sys.stdout)


@app.command()
def data(
    output: Annotated[
        Any,
        typer.Option(
            "--output",
            "-o",
            parser=words.directory,
            metavar="DIRECTORY",
            help="Directory to write to.",
        ),
    ],
) -> None:
    """Write the embedded benchmark as parquet and YAML, for lmms-eval's `--include_path`.

    **Example**

    `harness data -o benchmark && python -m lmms_eval --include_path benchmark --tasks embedded …`
    """
    from harness.embedded import export

    try:
        export.write(output)
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
