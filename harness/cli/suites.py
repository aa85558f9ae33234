"""`harness list suites`: what each asks, and about how long that takes."""

from __future__ import annotations

from harness.records import cost
from harness.records.suites import EXTENTS, SUITES, Extent, Suite
from harness.records.task_metrics import metrics_of
from harness.tables.numbers import three_digits
from harness.tables.table import Column, Table

MODEL = "llava-1.5-7b"
SHAPE = {
    **{"layers": 32, "hidden_size": 4096, "intermediate_size": 11008, "vocabulary": 32064},
    **{"attention_heads": 32, "key_value_heads": 32, "head_dim": 128, "projector_inner": 4096},
    **{"tower_layers": 24, "tower_width": 1024, "tower_heads": 16, "tower_intermediate": 4096},
    **{"tower_rows": 577, "patch_values": 588, "image_tokens": 576},
}
"""Its integers, as a record holds them."""
FLOPS, BYTES, SHARE = 989e12, 3.35e12, 0.2
"""Of one H100: bfloat16 FLOPs and bytes a second, and how much of both is taken to be reached."""
TEXT = 100
"""Text tokens of a question, a guess."""


def suites_tables() -> list[Table]:
    """Each suite's tasks, the first metric that tables show of each, and an estimate of hours."""
    rows = tuple(
        (
            (name,),
            (task,),
            (str(_questions(suite, task)),),
            (metrics_of(task, ())[0].name,),
            (metrics_of(task, ())[0].unit,),
            ("yes" if EXTENTS[task].judged else "",),
            (three_digits(_hours(suite, task)),),
        )
        for name, suite in SUITES.items()
        for task in suite.tasks
    )
    first = [i for i, row in enumerate(rows) if row[0] != rows[i - 1][0]]
    columns = (
        *(Column(title, (title.lower(),), left=True) for title in ("Suite", "Task")),
        Column("Questions", ("questions",)),
        *(Column(title, (title.lower(),), left=True) for title in ("Metric", "Unit", "Judge")),
        Column("Hours", ("hours",)),
    )
    return [Table("Suites", columns, rows, frozenset(first), notes=(*_sums(), _HOW))]


_HOW = (
    "Hours: an estimate for one cell, unpruned, one question at a time: FLOPs of vision tower and "
    f"prefill, and the weights that each further token reads, of {MODEL}'s shape in bfloat16, at "
    f"{SHARE:.0%} of an H100's {FLOPS / 1e12:.0f} TFLOP/s and {BYTES / 1e12:.2f} TB/s; {TEXT} text "
    f"tokens a question, answers of 4 to {max(e.answer for e in EXTENTS.values())} tokens. Reading "
    "images and scoring come on top. Judge: a model that is asked for each score needs its key."
)


def _sums() -> list[str]:
    """What each suite is, with its questions and hours."""
    return [
        f"{name}: {suite.what}; {sum(_questions(suite, task) for task in suite.tasks)} questions, "
        f"{three_digits(sum(_hours(suite, task) for task in suite.tasks))} hours a cell."
        for name, suite in SUITES.items()
    ]


def _questions(suite: Suite, task: str) -> int:
    return min(suite.samples_per_task or EXTENTS[task].questions, EXTENTS[task].questions)


def _hours(suite: Suite, task: str) -> float:
    return _questions(suite, task) * seconds_of(EXTENTS[task]) / 3600


def seconds_of(extent: Extent) -> float:
    """One question about one image, as `_HOW` says."""
    shape, visual = SHAPE, SHAPE["image_tokens"]
    flops = (
        cost.prefill_flops(shape, [visual] * shape["layers"], TEXT)
        + cost.tower_flops(shape)
        + cost.projector_flops(shape, visual)
    )
    read = (extent.answer - 1) * cost.decoder_weights(shape) * cost.DTYPE_BYTES["bfloat16"]
    return flops / (SHARE * FLOPS) + read / (SHARE * BYTES)
