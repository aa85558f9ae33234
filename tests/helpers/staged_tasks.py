"""Small data sets of lmms-eval's own tasks, and a model whose answers they can score.

The data lie as `datasets` leaves them in a Hugging Face home after one run online, so that
lmms-eval finds them offline. Pictures and questions are the embedded benchmark's; of six answers
that count as right one is wrong, so that no model is right throughout.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetInfo, Features, Image, List, SplitDict, SplitInfo, Value
from datasets.arrow_writer import ArrowWriter
from datasets.naming import camelcase_to_snakecase
from PIL import Image as Picture
from staged_rows import LETTERS, Question, Row, Staged
from video_files import write_video

from harness.embedded import benchmark
from harness.embedded.scenes import COLOURS
from harness.models.load import EMBEDDED, model_directory

OTHER = dict(zip(("yes", "no", *COLOURS), ("no", "yes", *COLOURS[1:], COLOURS[0]), strict=True))
"""An answer, and one that is wrong where it is right."""


def reader(directory: Path) -> None:
    """The embedded model, asked no more than a question's own words: it was taught no others.

    It names a colour by the letter of an option, and for a caption it lists what it sees.
    """
    directory.mkdir()
    for file in model_directory(EMBEDDED).iterdir():
        (directory / file.name).symlink_to(file)
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    asked = [
        ({"Regex": r"\?[\s\S]*(?=ASSISTANT:)"}, "? "),
        ({"String": "Provide a one-sentence caption for the provided image."}, "list all"),
    ]
    named = [({"String": colour}, letter) for colour, letter in LETTERS.items()]
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": _replacing(asked)}
    spaces = {"type": "WordPiece", "prefix": "##", "cleanup": False}
    tokenizer["decoder"] = {"type": "Sequence", "decoders": [*_replacing(named), spaces]}
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))


def speller(directory: Path) -> None:
    """Of a saved model: what it says is letters of options, one for each of its words."""
    file = directory / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    words = list(tokenizer["model"]["vocab"])
    said = [
        ({"Regex": f"^({'|'.join(map(re.escape, words[i::4]))})$"}, f"{letter} ")
        for i, letter in enumerate("ABCD")
    ]
    tokenizer["decoder"] = {"type": "Sequence", "decoders": _replacing(said)}
    file.write_text(json.dumps(tokenizer))


def stage_videos(home: Path, folders: Iterable[str], count: int, frames: int = 12) -> None:
    """`count` videos in each folder: pictures of the benchmark, one after the other."""
    shown = sorted(benchmark.image_ids())
    for i in range(count):
        names = shown[i * frames : (i + 1) * frames]
        pictures = [Picture.fromarray(benchmark.image(name)) for name in names]
        for folder in folders:
            write_video(home / folder / f"v{i}.mp4", pictures)


def _replacing(pairs: Sequence[tuple[dict[str, str], str]]) -> list[dict[str, Any]]:
    return [{"type": "Replace", "pattern": old, "content": new} for old, new in pairs]


def stage(home: Path, tables: Sequence[Staged], count: int) -> None:
    """Put `count` questions of each data set into the Hugging Face home."""
    for data in tables:
        _write(home, data, [data.row(question) for question in _questions(data, count)])


def _questions(data: Staged, count: int) -> list[Question]:
    items = benchmark.items(f"embedded_{data.about}")
    fit = [item for item in items if item.answer in OTHER]
    chosen = [fit[i % (data.pictures or count)] for i in range(count)]
    return [
        Question(
            i,
            item.question,
            OTHER[item.answer] if i % 6 == 5 else item.answer,
            Picture.fromarray(benchmark.image(item.image_id)),
        )
        for i, item in enumerate(chosen)
    ]


def _write(home: Path, data: Staged, rows: Sequence[Row]) -> None:
    owner, name = data.repository.split("/")
    name, features = camelcase_to_snakecase(name), Features(_feature(rows[0]))
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


def _feature(value: Any) -> Any:
    """What `datasets` calls the kind of a column; None stands for a picture that is not there."""
    if isinstance(value, dict):
        return {key: _feature(part) for key, part in value.items()}
    if isinstance(value, list):
        return List(_feature(value[0]))
    if value is None or isinstance(value, Picture.Image):
        return Image()
    return Value({str: "string", int: "int64", bool: "bool"}[type(value)])
