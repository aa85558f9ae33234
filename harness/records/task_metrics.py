"""Which of a task's metrics is shown, how it is printed, and which published figures it equals.

Chosen by the task's name alone: a choice that looked at scores could differ from cell to cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SUM = "+"
"""Joins lmms-eval's metrics whose values are added."""

PERCENT = 100.0
_NOT_SCORES = ("submission", "passthrough")


@dataclass(frozen=True)
class Metric:
    """`name`: lmms-eval's, or several joined by `SUM`; `title` tells it from others of the task;
    `unit`: of what is printed.

    What is printed is `scale` times what lmms-eval prints; None: percent of what are shares, else
    the same. `benchmark` and `published`: the
    published benchmark and metrics that are the same quantity.
    """

    name: str
    scale: float | None = PERCENT
    title: str = ""
    unit: str = "%"
    benchmark: str = ""
    published: tuple[str, ...] = ("accuracy", "exact match")

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.name.split(SUM))


def _cider(name: str, benchmark: str) -> Metric:
    return Metric(name, PERCENT, "CIDEr", "CIDEr", benchmark, ("CIDEr",))


_EXACT = "exact_match"
TASK_METRICS: dict[str, tuple[Metric, ...]] = {
    "gqa": (Metric(_EXACT, benchmark="GQA"),),
    "mme": (
        Metric(
            "mme_perception_score+mme_cognition_score",
            1.0,
            "total",
            "points",
            "MME",
            ("perception+cognition",),
        ),
        Metric("mme_perception_score", 1.0, "perception", "points", "MME-P", ("perception",)),
    ),
    "mmbench_en_dev": (Metric("gpt_eval_score", 1.0, benchmark="MMBench"),),
    "mmbench_en_dev_static": (Metric("gpt_eval_score", 1.0, benchmark="MMBench"),),
    "mmbench_cn_dev": (Metric("gpt_eval_score", 1.0, benchmark="MMBench-CN"),),
    "pope": (
        Metric("pope_accuracy", title="accuracy"),
        Metric("pope_f1_score", PERCENT, "F1", "%", "POPE", ("F1", "as printed (F1-style)")),
    ),
    "scienceqa_img": (Metric(_EXACT, benchmark="SQA-IMG"),),
    "vqav2_val": (Metric(_EXACT, benchmark="VQAv2"),),
    "textvqa_val": (Metric(_EXACT, benchmark="TextVQA"),),
    "vizwiz_vqa_val": (Metric(_EXACT, benchmark="VizWiz"),),
    "ok_vqa_val2014": (Metric(_EXACT, benchmark="OK-VQA"),),
    "qbench_dev": (Metric("qbench_acc", benchmark="Q-Bench"),),
    "mmmu_val": (Metric("mmmu_acc", benchmark="MMMU"),),
    "mmstar": (Metric("average"),),
    "seedbench": (
        Metric("seed_all", title="all", benchmark="SEED-Bench"),
        Metric("seed_image", title="image", benchmark="SEED-Bench-Image"),
    ),
    "ocrbench": (Metric("ocrbench_accuracy", 1000.0, "", "of 1000", "OCRBench", ("score/1000",)),),
    "coco2014_cap_val": (_cider("coco_CIDEr", "COCO-2014"),),
    "coco2017_cap_val": (_cider("coco_CIDEr", "COCO"),),
    "flickr30k_test": (_cider("flickr_CIDEr", "Flickr30k"),),
    "nocaps_val": (_cider("nocaps_CIDEr", "NoCaps"),),
    "mathvista_testmini_format": (Metric("llm_as_judge_eval", 1.0),),
    "mathvision_test": (Metric("mathvision_standard_eval", 1.0),),
    "seedbench_2_plus": (Metric("seedbench_2_plus_all"),),
    "mia_bench": (Metric("gpt_eval_score"),),
    "hallusion_bench_image": (Metric("aAcc", 1.0),),
}
"""The first of a task's is the one that averages and tests are made of."""


def metrics_of(task: str, names: Sequence[str]) -> tuple[Metric, ...]:
    """Of a task whose metrics lmms-eval calls `names`.

    Of a task that is not listed: "acc", CIDEr of captions, or the first that is a score. Raises
    ValueError where none is.
    """
    if task in TASK_METRICS:
        return TASK_METRICS[task]
    scores = [name for name in names if not any(kind in name for kind in _NOT_SCORES)]
    if not scores:
        raise ValueError(f"task {task!r} computes no score ({', '.join(names) or 'no metric'})")
    best = next((name for name in scores if name == "acc" or name.endswith("_CIDEr")), scores[0])
    return (Metric(best, None),)
