"""Small data sets of lmms-eval's own tasks, in the schemas that are published.

They lie as `datasets` leaves them in a Hugging Face home after one run online, so that lmms-eval
finds them offline. Pictures and questions are the embedded benchmark's, whose answers are true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import DatasetInfo, Features, Image, List, SplitDict, SplitInfo, Value
from datasets.arrow_writer import ArrowWriter
from datasets.naming import camelcase_to_snakecase
from PIL import Image as Picture

from harness.embedded import benchmark

TEXT, NUMBER = Value("string"), Value("int64")
STARS = (("coarse perception", "image emotion"), ("math", "geometry"))
OCR = ("Regular Text Recognition", "Scene Text-centric VQA", "Doc-oriented VQA")


@dataclass(frozen=True)
class Question:
    number: int
    text: str
    answer: str  # yes or no
    picture: Picture.Image

    @property
    def letter(self) -> str:
        return "A" if self.answer == "yes" else "B"


@dataclass(frozen=True)
class Staged:
    """`row` makes the columns of `features` of a question."""

    repository: str
    configuration: str
    split: str
    features: Mapping[str, Any]
    row: Callable[[Question], dict[str, Any]]


STAGED = (
    Staged(
        "lmms-lab-encoder/POPE",
        "default",
        "test",
        dict.fromkeys(("id", "question_id", "question", "answer", "image_source", "category"), TEXT)
        | {"image": Image()},
        lambda q: {
            "id": str(q.number),
            "question_id": str(q.number),
            "question": q.text,
            "answer": q.answer,
            "image_source": f"picture {q.number}",
            "category": ("random", "popular", "adversarial")[q.number % 3],
            "image": q.picture,
        },
    ),
    Staged(
        "lmms-lab-encoder/MME",
        "default",
        "test",
        dict.fromkeys(("question_id", "question", "answer", "category"), TEXT) | {"image": Image()},
        lambda q: {
            "question_id": f"pair {q.number // 2}",
            "question": f"{q.text} Please answer yes or no.",
            "answer": q.answer.capitalize(),
            "category": ("existence", "code_reasoning", "count")[q.number // 2 % 3],
            "image": q.picture,
        },
    ),
    Staged(
        "echo840/OCRBench",
        "default",
        "test",
        {
            **dict.fromkeys(("dataset", "question", "question_type"), TEXT),
            **{"answer": List(TEXT), "image": Image()},
        },
        lambda q: {
            "dataset": "IIIT5K",
            "question": q.text,
            "question_type": OCR[q.number % 3],
            "answer": [q.answer],
            "image": q.picture,
        },
    ),
    Staged(
        "Lin-Chen/MMStar",
        "val",
        "val",
        {
            **dict.fromkeys(("question", "answer", "category", "l2_category"), TEXT),
            **{"index": NUMBER, "image": Image()},
            "meta_info": dict.fromkeys(("source", "split", "image_path"), TEXT),
        },
        lambda q: {
            "index": q.number,
            "question": f"{q.text}\nOptions: A: yes, B: no, C: red, D: blue",
            "answer": q.letter,
            "category": STARS[q.number % 2][0],
            "l2_category": STARS[q.number % 2][1],
            "meta_info": {"source": "own", "split": "val", "image_path": ""},
            "image": q.picture,
        },
    ),
    Staged(
        "lmms-lab-encoder/OK-VQA",
        "default",
        "val2014",
        {
            **dict.fromkeys(("question_id", "question", "question_type", "answer_type"), TEXT),
            **{"answers": List(TEXT), "image": Image()},
        },
        lambda q: {
            "question_id": str(q.number),
            "question": q.text,
            "question_type": "one",
            "answer_type": "other",
            "answers": [q.answer] * 8 + ["circle", "two"],
            "image": q.picture,
        },
    ),
)
TASKS = ("pope", "mme", "ocrbench", "mmstar", "ok_vqa_val2014")
"""What lmms-eval makes of them, in the same order."""


def stage(home: Path, count: int) -> None:
    """Put `count` questions of each data set into the Hugging Face home."""
    task = "embedded_existence"
    questions = [
        Question(i, item.question, item.answer, Picture.fromarray(benchmark.image(item.image_id)))
        for i, item in enumerate(benchmark.items(task)[:count])
    ]
    for data in STAGED:
        _write(home, data, [data.row(question) for question in questions])


def _write(home: Path, data: Staged, rows: list[dict[str, Any]]) -> None:
    owner, name = data.repository.split("/")
    name, features = camelcase_to_snakecase(name), Features(data.features)
    revision = hashlib.sha1(data.repository.encode()).hexdigest()
    folder = home / "datasets" / f"{owner}___{name}" / data.configuration / "0.0.0" / revision
    folder.mkdir(parents=True)
    with ArrowWriter(path=str(folder / f"{name}-{data.split}.arrow"), features=features) as writer:
        for row in rows:
            writer.write(features.encode_example(row))
        _, size = writer.finalize()
    splits = SplitDict(dataset_name=name)
    splits[data.split] = SplitInfo(data.split, size, len(rows), dataset_name=name)
    DatasetInfo(
        builder_name="parquet",
        dataset_name=name,
        config_name=data.configuration,
        version="0.0.0",
        features=features,
        splits=splits,
    ).write_to_directory(str(folder))
