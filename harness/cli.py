"""The command line. Only `compare` loads a model; what a command needs is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import BadInput
from harness.options import Emphasis, Format, Intervals, Layout

BAD_INPUT = 2
OUTPUT = Path("results/local")
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # its base has no public name

app = typer.Typer(
    no_args_is_help=True,
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


@app.callback()
def _about() -> None:
    """Visual token pruning methods, compared at matched and counted budgets.

    A budget is the mean number of visual tokens that enter a decoder layer.
    """


@app.command()
def compare(
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
        str, typer.Option(help="`embedded`, `tiny`, or the directory of a checkpoint.")
    ] = "embedded",
    tasks: Annotated[
        str, typer.Option(help="`embedded` for its five, or names of any lmms-eval tasks.")
    ] = "embedded",
    limit: Annotated[
        int | None, typer.Option(help="Questions a task, the first ones; all if not given.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Questions answered at once.")] = 1,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:1`.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="`auto`, `float32`, `bfloat16` or `float16`.")
    ] = "auto",
    attention: Annotated[
        str, typer.Option(help="`sdpa`, `eager` or `flash_attention_2`.")
    ] = "sdpa",
    controls: Annotated[
        bool, typer.Option("--controls", help="Also `uniform`, and `random` with five seeds.")
    ] = False,
    no_accuracy: Annotated[
        bool, typer.Option("--no-accuracy", help="Do not answer questions.")
    ] = False,
    no_efficiency: Annotated[
        bool, typer.Option("--no-efficiency", help="Do not measure time and memory.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Rounds in which every cell is timed.")] = 10,
    seed: Annotated[int, typer.Option(help="Of `random`, of the timed input and order.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory of the records and tables.")
    ] = OUTPUT,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what the records already hold.")
    ] = False,
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
    from harness.compare import compare as run
    from harness.request import read_request
    from methods.interface import PruningError

    try:
        return run(
            read_request(
                methods=methods,
                budgets=budgets,
                match=match,
                model=model,
                tasks=tasks,
                limit=limit,
                batch_size=batch_size,
                device=device,
                dtype=dtype,
                attention=attention,
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
    repeats: Annotated[int, typer.Option(help="Rounds in which every cell is timed.")] = 20,
    minutes: Annotated[
        float | None,
        typer.Option(help="Begin no further round this long after the first step."),
    ] = None,
    find_max_batch: Annotated[
        float | None,
        typer.Option(help="Also find the largest batch that fits into so many GiB."),
    ] = None,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:1`.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="`auto`, `float32`, `bfloat16` or `float16`.")
    ] = "auto",
    attention: Annotated[
        str, typer.Option(help="`sdpa`, `eager` or `flash_attention_2`.")
    ] = "sdpa",
    allow_busy: Annotated[
        bool, typer.Option("--allow-busy", help="Measure on a busy or slowed GPU all the same.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of `random`, of the timed input and order.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory of the records and tables.")
    ] = OUTPUT,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what the records already hold.")
    ] = False,
) -> int:
    """Measure time and memory by phase, beside what the device allows; needs no lmms-eval.

    Each batch size is one record; after an interruption the same command goes on from there. Exit
    status: 0, 1 if a cell failed, 2 for bad input, 130 after Ctrl-C.

    **Examples**

    `harness efficiency --model random:llava-1.5-7b --budgets 192,128,64 --batch-size 1,8`

    `harness efficiency --model random:llava-1.5-7b-eighth --device cpu --batch-size 1`
    """
    from harness.efficiency import Extent, check_extent, parse_batch_sizes
    from harness.efficiency import efficiency as run
    from harness.request import read_request
    from methods.interface import PruningError

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


@app.command()
def table(
    directories: Annotated[
        list[Path] | None, typer.Argument(help="Directories with records.", show_default=False)
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(help="Accuracy and efficiency if not given.", show_default=False),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.RICH,
    emphasis: Annotated[
        Emphasis,
        typer.Option(help="Bold in `paper`: the best, or all that is not significantly worse."),
    ] = Emphasis.SIGNIFICANT,
    intervals: Annotated[
        Intervals, typer.Option(help="95 % intervals in `paper`: as ± or in small type.")
    ] = Intervals.NONE,
    fidelity: Annotated[
        bool, typer.Option("--fidelity", help="In `paper` also how close answers are to unpruned.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="In `paper` also what papers print.")
    ] = False,
    published_only: Annotated[
        bool, typer.Option("--published-only", help="Only what papers print; no records.")
    ] = False,
    model: Annotated[str, typer.Option(help="Of `--published-only`.")] = "LLaVA-1.5-7B",
    budget: Annotated[int, typer.Option(help="Of `--published-only`.")] = 64,
) -> None:
    """Print the tables again, from records alone.

    **Examples**

    `harness table results/local`

    `harness table results/local --layout paper --format latex > table.tex`

    `harness table --published-only --model LLaVA-1.5-7B --budget 64`
    """
    from harness.layouts import WRITERS, laid_out
    from harness.paper_table import Style
    from harness.render import show
    from harness.results import read_records

    if published_only:
        from harness.published import survey

        found = [survey(model, budget)]
    else:
        records = read_records(directories or [OUTPUT], _warn, whole=fidelity)
        found = laid_out(records, layout, Style(emphasis, intervals, fidelity, published))
    if format_ is Format.RICH:
        show(found, sys.stdout)
    else:
        sys.stdout.write(WRITERS[format_](found))


@app.command()
def report(
    directories: Annotated[
        list[Path] | None, typer.Argument(help="Directories with records.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path(
        "report.html"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the page.")] = False,
) -> None:
    """Write one HTML page of everything the records show: figures, tables, what was kept.

    **Example**

    `harness report results/local -o report.html`
    """
    from harness.report import write_report
    from harness.results import read_records

    write_report(read_records(directories or [OUTPUT], _warn, whole=True), output, force)


@app.command(name="show")
def show_(
    path: Annotated[Path, typer.Argument(help="A record, or a directory of records.")] = OUTPUT,
    item: Annotated[
        str | None, typer.Option(help="A question, such as `embedded_count/3`.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Write what was kept of the item's image.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the picture.")] = False,
) -> None:
    """Show one cell or one item: plan, ledger, timing; answers and what each stage kept.

    **Examples**

    `harness show results/local/accuracy-vitcop@64-embedded_count-0123456789.json.gz`

    `harness show results/local --item embedded_count/3 --png kept.png`
    """
    from harness import show
    from harness.render import show as print_tables

    if png is not None and (item is None or (png.exists() and not force)):
        raise BadInput(
            "--png needs --item" if item is None else f"{png} exists; --force replaces it"
        )
    records = show.opened(path, _warn)
    if item is not None:
        print_tables([show.item_table(records, item)], sys.stdout)
        if png is not None:
            show.write_sheet(records, item, png)
    else:
        print_tables(show.cell_tables(path, records), sys.stdout)


@app.command()
def regress(
    against: Annotated[
        Path,
        typer.Option(help="Baseline: a directory of records, or a file of pytest-benchmark."),
    ],
    current: Annotated[
        Path | None,
        typer.Argument(
            help="What is compared with it; records are measured now if not given.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Points of accuracy: a cell must be shown to lose no more. "
            "Without it, only a significant loss is a regression.",
            show_default=False,
        ),
    ] = None,
    max_slowdown: Annotated[
        str, typer.Option(help="Of time and memory, relative to unpruned in the same run.")
    ] = "5%",
    update: Annotated[
        bool, typer.Option("--update", help="Make CURRENT the baseline, and say what changed.")
    ] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Accept a baseline that no commit holds.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="File for all findings.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the table.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory of records that are measured now.")
    ] = OUTPUT / "regress",
) -> int:
    """Compare records with a baseline, each quantity by its nature, and give a verdict.

    Exact: tokens, KV rows, FLOPs, parameters, selections, answers. Paired: accuracy on the same
    questions. Ratio: times and memory, as shares of unpruned in the same run. Exit status: 0 no
    regression, 1 regression, 2 bad input, 3 nothing comparable, 130 after Ctrl-C.

    **Examples**

    `harness regress --against results/baselines/embedded`

    `harness regress --against before.json after.json --max-slowdown 10%`
    """
    from harness.regress.gate import Gate
    from harness.regress.gate import regress as run
    from harness.regress.records import Limits
    from harness.request import check_output, percentage
    from methods.interface import PruningError

    check_output(output)
    limits = Limits(percentage("--max-slowdown", max_slowdown), tolerance)
    try:
        return run(Gate(against, current, limits, output, update, allow_dirty, json, markdown))
    except PruningError as error:
        raise BadInput(str(error)) from error


@app.command(name="list")
def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """List methods, models or tasks."""
    from harness import listing
    from harness.render import show

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
    from harness.request import check_output

    check_output(output)
    benchmark.write(output)


def _warn(line: str) -> None:
    print(f"harness: {line}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: exit status; what the user can mend is one sentence and status 2."""
    try:
        return int(app(args=arguments, prog_name="harness", standalone_mode=False) or 0)
    except (_UsageError, BadInput) as error:
        sentence = str(error) if isinstance(error, BadInput) else error.format_message()
        _warn(" ".join(sentence.split()))
        return BAD_INPUT
