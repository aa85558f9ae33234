"""Every option that becomes part of a request, stated once: its words, range and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import words
from harness.errors import BadInput
from harness.models.placement import ATTENTIONS, DTYPES
from harness.models.protocols import PROTOCOLS
from harness.records.form import MOST_COUNT
from harness.records.suites import suite
from harness.run.request import Match, Per

OUTPUT = Path("results/local")
MOST_SEED = 2**31 - 1
_LIST, _NUMBER = "LIST", "NUMBER"


def _one_of(allowed: Any) -> str:
    return f"[{'|'.join(allowed)}]"


Methods = Annotated[
    str,  # what `all` stands for depends on other options
    typer.Option(
        metavar=_LIST,
        help="Names, or `all`: those made for videos are in it with the embedded video model or "
        "--frames; with settings: `sparsevlm:variant=plus`. Unpruned always runs, too.",
    ),
]
Budgets = Annotated[
    Any,
    typer.Option(
        parser=words.parse_budgets,
        metavar=_LIST,
        help="Visual tokens a layer, each from 1 to the images' tokens; or shares of them: `33%`, "
        "`1/9`.",
    ),
]
Matched = Annotated[
    Any,
    typer.Option(
        parser=words.parse_match,
        metavar=_one_of(Match),
        help="What a budget fixes: `tokens` a layer, or `flops`, the prefill FLOPs (selection "
        "counted) of so many tokens in every layer.",
    ),
]
BudgetPer = Annotated[
    Any,
    typer.Option(
        parser=words.parse_budget_per,
        metavar=_one_of(Per),
        help="What a budget of tokens is of: all images of a question, or each of them.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="`embedded`, `embedded-video`, `tiny`, the directory of a checkpoint, or "
        "ORG/NAME[@REVISION] as on the Hugging Face hub, from its cache where that is not reached; "
        "to be timed only, a preset such as `random:llava-1.5-7b`."
    ),
]
Tasks = Annotated[
    Any,
    typer.Option(
        parser=words.parse_tasks,
        metavar=_LIST,
        help="`embedded` or `embedded-video` for the five of each, or names of lmms-eval tasks; a "
        "group stands for its tasks. The embedded video model's own if not given, else `embedded`.",
        show_default=False,
    ),
]
Suite = Annotated[
    Any,
    typer.Option(
        parser=suite,
        metavar="NAME",
        help="A set of tasks, in place of --tasks; `harness list suites` has them.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar=_NUMBER,
        min=1,
        max=MOST_COUNT,
        help="Questions a task, the first ones; all if not given.",
    ),
]
SamplesPerTask = Annotated[
    int | None,
    typer.Option(
        metavar=_NUMBER,
        min=1,
        max=MOST_COUNT,
        help="Questions a task, drawn image by image with all questions about it, in place of "
        "--limit.",
    ),
]
Sample = Annotated[
    int,
    typer.Option(
        metavar=_NUMBER, min=0, max=MOST_SEED, help="Seed that --samples-per-task draws by."
    ),
]
Frames = Annotated[
    int,
    typer.Option(
        metavar=_NUMBER,
        min=1,
        max=words.MOST_FRAMES,
        help="Shown of each video, evenly from its first to its last.",
    ),
]
BatchSize = Annotated[
    int, typer.Option(metavar=_NUMBER, min=1, max=MOST_COUNT, help="Questions answered at once.")
]
BatchSizes = Annotated[
    Any,
    typer.Option(
        "--batch-size",
        parser=words.parse_batch_sizes,
        metavar=_LIST,
        help="Samples at once; a list makes one table each.",
    ),
]
PromptTokens = Annotated[
    int, typer.Option(metavar=_NUMBER, min=1, max=MOST_COUNT, help="Text tokens of the prompt.")
]
NewTokens = Annotated[
    int, typer.Option(metavar=_NUMBER, min=2, max=MOST_COUNT, help="Tokens of the answer.")
]
Images = Annotated[
    int | None,
    typer.Option(
        metavar=_NUMBER,
        min=1,
        max=MOST_COUNT,
        help="Images a prompt; the model's own number if not given.",
    ),
]
TimedFrames = Annotated[
    Any,
    typer.Option(
        "--frames",
        parser=words.parse_timed_frames,
        metavar=_LIST,
        help="Frames of a video that each prompt has in place of images; a list makes one table "
        "each.",
        show_default=False,
    ),
]
Minutes = Annotated[
    Any,
    typer.Option(
        "--minutes",
        parser=words.above_zero("--minutes"),
        metavar=_NUMBER,
        help="Begin no further round this long after the first step.",
        show_default=False,
    ),
]
FindMaxBatch = Annotated[
    Any,
    typer.Option(
        "--find-max-batch",
        parser=words.above_zero("--find-max-batch"),
        metavar=_NUMBER,
        help="Also find the largest batch that fits into so many GiB.",
        show_default=False,
    ),
]
Saturate = Annotated[
    Any,
    typer.Option(
        "--saturate",
        parser=words.above_zero("--saturate"),
        metavar=_NUMBER,
        help="Also find the batch, within so many GiB, at which requests a second stop growing.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:1`.")]
Dtype = Annotated[str, typer.Option(metavar=_one_of(DTYPES), help="Of weights and activations.")]
Attention = Annotated[str, typer.Option(metavar=_one_of(ATTENTIONS), help="How it is computed.")]
AllowBusy = Annotated[
    bool, typer.Option("--allow-busy", help="Measure on a busy or slowed GPU all the same.")
]
AskedBy = Annotated[
    str,
    typer.Option(
        metavar=_one_of(PROTOCOLS),
        help="`hf`: the checkpoint's own chat template and processor. `llava`: prompt and "
        "padded images of LLaVA-1.5's own code, as in published figures.",
    ),
]
ChatTemplate = Annotated[
    Path | None, typer.Option(help="A Jinja file instead of the checkpoint's chat template.")
]
Controls = Annotated[
    bool, typer.Option("--controls", help="Also `uniform`, and `random` with five seeds.")
]
Accuracy = Annotated[
    bool,
    typer.Option(" /--no-accuracy", help="Do not answer questions.", show_default=False),
]
Efficiency = Annotated[
    bool,
    typer.Option(" /--no-efficiency", help="Do not measure time and memory.", show_default=False),
]
Repeats = Annotated[
    int,
    typer.Option(
        metavar=_NUMBER, min=1, max=MOST_COUNT, help="Rounds in which every cell is timed."
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        metavar=_NUMBER, min=0, max=MOST_SEED, help="Of `random`, of the timed input and order."
    ),
]
RecordsOutput = Annotated[
    Any,
    typer.Option(
        "--output",
        "-o",
        parser=words.directory,
        metavar="DIRECTORY",
        help="Directory of the records and tables.",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Measure again what the records already hold.")
]
Report = Annotated[
    bool, typer.Option("--report", help="Also write `report.html` beside the records.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar=_NUMBER,
        min=1,
        max=MOST_COUNT,
        help="Answer by so many workers on Ray, with a GPU or a share of the cores each.",
        show_default=False,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="The Ray cluster that the workers are of; `auto` for the one of this machine.",
        show_default=False,
    ),
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
