"""The commands that work on records, and load a model only where `regress` measures anew."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.analysis.emphasis import Emphasis
from harness.cli import words
from harness.cli.options import OUTPUT, Directories, refuse
from harness.errors import BadInput, warn
from harness.tables.choices import Intervals

MOST_UNFINISHED = 20
"""Lines about cells that a table has not yet."""


def table(
    context: typer.Context,
    directories: Directories = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="`paper`, `accuracy`, `efficiency` or `long`; if not given the two in the middle.",
            show_default=False,
        ),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="`rich`, `markdown`, `latex`, `csv` or `html`.")
    ] = "rich",
    emphasis: Annotated[
        Emphasis,
        typer.Option(help="Bold in `paper`: the best, or all that is not significantly worse."),
    ] = Emphasis.SIGNIFICANT,
    intervals: Annotated[
        Intervals, typer.Option(help="95 % intervals in `paper`: as ± or in small type.")
    ] = Intervals.NONE,
    wide: Annotated[
        bool, typer.Option("--wide", help="All that is known of each cell, as CSV always has.")
    ] = False,
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
) -> int:
    """Print the tables again, from records alone. Exit status: 0, 1 if a cell failed, 2 bad input.

    **Examples**

    `harness table results/local`

    `harness table results/local --layout paper --format latex > table.tex`

    `harness table --published-only --model LLaVA-1.5-7B --budget 64`
    """
    from harness.records.groups import read_records
    from harness.tables.brief import at_a_glance, brief
    from harness.tables.layouts import RICH, WRITERS, check_words, laid_out
    from harness.tables.paper import Style
    from harness.tables.terminal import show as print_tables

    check_words(layout, format_)
    _refuse_idle_of_table(context, layout, published_only)
    if published_only:
        from harness.tables.published import survey

        found = [survey(model, budget)]
    else:
        _say_unfinished(directories or [OUTPUT])
        records = read_records(directories or [OUTPUT], warn, whole=fidelity)
        found = laid_out(records, layout, Style(emphasis, intervals, fidelity, published))
    whole = wide or format_ not in (RICH, "markdown")
    if format_ == RICH:
        print_tables(found if whole else at_a_glance(found, sys.stdout), sys.stdout)
    else:
        sys.stdout.write(WRITERS[format_](found if whole else [brief(one) for one in found]))
    return int(any(table.failed for table in found))


def _say_unfinished(directories: Sequence[Path]) -> None:
    """How far cells are that the table has not yet, a line each as long as they are few."""
    from harness.records.shards import unfinished

    found = [one for directory in directories for one in unfinished(directory, warn)]
    for one in found[:MOST_UNFINISHED]:
        warn(str(one))
    if others := found[MOST_UNFINISHED:]:
        answered, questions = sum(o.answered for o in others), sum(o.questions for o in others)
        warn(f"{len(others)} others: {answered:,} of {questions:,} questions answered")


def rescore(
    directory: Annotated[Path, typer.Argument(help="A directory of records.")] = OUTPUT,
) -> int:
    """Score again what was answered, by its task as it is now; no question is asked again.

    For answers whose scoring failed, and for those that an older version of their task scored.
    Exit status: 0, 1 where scoring failed again, 2 bad input.

    **Example**

    `harness rescore results/local`
    """
    from harness.run.rescore import rescore as score_again

    return score_again(directory)


def _refuse_idle_of_table(context: typer.Context, layout: str | None, published_only: bool) -> None:
    of_paper = ("emphasis", "intervals", "fidelity", "published")
    if published_only:
        refuse(context, "with --published-only", "directories", "layout", *of_paper)
        return
    refuse(context, "without --published-only", "model", "budget")
    if layout != "paper":
        refuse(context, "without --layout paper", *of_paper)


def report(
    directories: Directories = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path(
        "report.html"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the page.")] = False,
) -> None:
    """Write one HTML page of everything the records show: figures, tables, what was kept.

    **Example**

    `harness report results/local -o report.html`
    """
    from harness.records.groups import read_records
    from harness.tables.page import write_report

    write_report(read_records(directories or [OUTPUT], warn, whole=True), output, force)


def show(
    context: typer.Context,
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
    from harness.records.file import check_file
    from harness.tables.show import cell_tables, item_table, opened, write_sheet
    from harness.tables.terminal import show as print_tables

    if png is None:
        refuse(context, "without --png", "force")
    elif item is None:
        raise BadInput("--png needs --item")
    else:
        check_file(png, force)
    records = opened(path, warn)
    if png is not None and item is not None:
        write_sheet(records, item, png)
    found = cell_tables(path, records, warn) if item is None else [item_table(records, item)]
    print_tables(found, sys.stdout)


def regress(
    context: typer.Context,
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
        Any,
        typer.Option(
            parser=words.percentage("--max-slowdown"),
            metavar="PERCENT",
            help="Of time and memory, relative to unpruned in the same run.",
        ),
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
        Any,
        typer.Option(
            "--output",
            "-o",
            parser=words.directory,
            metavar="DIRECTORY",
            help="Directory of records that are measured now.",
        ),
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
    from harness.regress.benchmarks import is_benchmarks
    from harness.regress.gate import Gate
    from harness.regress.gate import regress as run
    from harness.regress.records import Limits

    if current is not None:
        refuse(context, "with CURRENT records", "output")
    if not update:
        refuse(context, "without --update", "allow_dirty")
    if is_benchmarks(against):
        refuse(context, "on benchmarks", "tolerance")
    limits = Limits(max_slowdown, tolerance)
    with words.method_blamed():
        return run(Gate(against, current, limits, output, update, allow_dirty, json, markdown))
