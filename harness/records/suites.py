"""Sets of tasks that go by a name, and how much a task asks."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import unknown


@dataclass(frozen=True)
class Suite:
    """`tasks` of lmms-eval; `samples_per_task`: so many questions of each are drawn, or all."""

    what: str
    tasks: tuple[str, ...]
    samples_per_task: int | None = None


SUITES = {
    "vitcop-image": Suite(
        "the eleven benchmarks of ViTCoP's chart",
        (
            *("gqa", "mme", "mmbench_en_dev_static", "pope", "scienceqa_img", "vqav2_val"),
            *("ok_vqa_val2014", "qbench_dev", "coco2017_cap_val", "flickr30k_test", "nocaps_val"),
        ),
    ),
    "unipruneb": Suite(
        "the ten data sets of UniPruneBench (arXiv 2511.02650), in lmms-eval's wording",
        (
            *("mme", "mmbench_en_dev_static", "mathvista_testmini_format", "mathvision_test"),
            *("seedbench_2_plus", "ocrbench", "mia_bench", "scienceqa_img", "pope"),
            "hallusion_bench_image",
        ),
    ),
    "quick": Suite(
        "200 questions of each of six benchmarks, drawn by image with seed 0",
        (*("gqa", "mme", "mmbench_en_dev_static", "pope", "scienceqa_img", "textvqa_val"),),
        samples_per_task=200,
    ),
}


def suite(name: str) -> Suite:
    """Raises BadInput for a suite that there is not."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]


@dataclass(frozen=True)
class Extent:
    """`questions` of the split that lmms-eval asks; `answer`: new tokens that one may take, a guess
    from what is asked for; `judged`: whether another model is asked for each score.
    """

    questions: int
    answer: int = 4
    judged: bool = False


CAPTION, REASONING = 16, 256
EXTENTS = {
    "gqa": Extent(12_578),
    "mme": Extent(2_374),
    "mmbench_en_dev_static": Extent(4_329),
    "pope": Extent(9_000),
    "scienceqa_img": Extent(2_017),
    "vqav2_val": Extent(214_354),
    "ok_vqa_val2014": Extent(5_046),
    "qbench_dev": Extent(1_495),
    "textvqa_val": Extent(5_000),
    "coco2017_cap_val": Extent(5_000, CAPTION),
    "flickr30k_test": Extent(31_783, CAPTION),
    "nocaps_val": Extent(4_500, CAPTION),
    "mathvista_testmini_format": Extent(1_000, REASONING, judged=True),
    "mathvision_test": Extent(3_040, REASONING),
    "seedbench_2_plus": Extent(2_277),
    "ocrbench": Extent(1_000, CAPTION),
    "mia_bench": Extent(400, REASONING, judged=True),
    "hallusion_bench_image": Extent(951, 64, judged=True),
}
"""Of the tasks of suites."""
