"""The benchmarks as files for lmms-eval: a parquet and a YAML a task, groups, clips, utils.py."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import pyarrow
from PIL import Image
from pyarrow import parquet

from harness.embedded import benchmark
from harness.embedded.benchmarks import TASKS, benchmark_of, groups
from harness.embedded.video import benchmark as video

MANIFEST = "manifest.json"
_TEMPLATES = Path(__file__).parent / "tasks"
CLIPS = "clips"
FRAME_MILLISECONDS = 250
_TEXT = {"dtype": "string", "_type": "Value"}


def write(directory: Path, tasks: Sequence[str] = TASKS) -> None:
    """Writes tasks to a directory, all files or none; does nothing where they are there already.

    The YAML files name the data by absolute path, so a directory that was moved is written anew.
    Raises ValueError for unknown tasks and for a directory that holds anything else.
    """
    by_group = groups(tasks)
    directory = directory.resolve()
    manifest = _manifest(directory, by_group)
    if directory.exists():
        if _is_written(directory, manifest):
            return
        if not directory.is_dir() or (any(directory.iterdir()) and not _is_ours(directory)):
            raise ValueError(f"{directory} holds other files; choose a new or an empty directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        _fill(new, directory, by_group)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if directory.exists():
            directory.rename(old)
        new.rename(directory)


def _manifest(directory: Path, by_group: dict[str, list[str]]) -> dict[str, object]:
    tasks = [task for members in by_group.values() for task in members]
    names = ["utils.py", *(f"{group}.yaml" for group in by_group)]
    names += [f"{task}.{ending}" for task in tasks for ending in ("parquet", "yaml")]
    known = map(benchmark_of, tasks)
    return {
        "benchmarks": {each.group: f"{each.version}-{each.digest}" for each in known},
        "directory": str(directory),
        "files": sorted(names + [CLIPS] * (video.GROUP in by_group)),
    }


def _is_ours(directory: Path) -> bool:
    return (directory / MANIFEST).is_file()


def _is_written(directory: Path, manifest: Mapping[str, Any]) -> bool:
    if not _is_ours(directory):
        return False
    files = {path.name for path in directory.iterdir() if path.name != "__pycache__"}
    expected = {MANIFEST, *manifest["files"]}
    return files == expected and json.loads((directory / MANIFEST).read_text("utf-8")) == manifest


def _fill(target: Path, final: Path, by_group: dict[str, list[str]]) -> None:
    """Writes the files into `target`; they name the data by its place in `final`."""
    task_text, group_text = (
        Template((_TEMPLATES / f"{kind}.yaml.template").read_text("utf-8"))
        for kind in ("task", "group")
    )
    for group, tasks in by_group.items():
        shown = _images(tasks) if group == benchmark.GROUP else _clips(tasks, target, final)
        for task in tasks:
            table = _table(task, *shown)
            parquet.write_table(table, target / f"{task}.parquet", compression="none")
            data_file = json.dumps(str(final / f"{task}.parquet"))
            text = task_text.substitute(task=task, data_file=data_file)
            (target / f"{task}.yaml").write_text(text, encoding="utf-8")
        text = group_text.substitute(group=group, tasks=json.dumps(tasks))
        (target / f"{group}.yaml").write_text(text, encoding="utf-8")
    shutil.copyfile(_TEMPLATES / "utils.py", target / "utils.py")


def _needed(tasks: Sequence[str]) -> list[str]:
    of_all = (benchmark_of(task).items(task) for task in tasks)
    return sorted({item.image_id for items in of_all for item in items})


def _images(tasks: Sequence[str]) -> tuple[str, dict[str, Any], pyarrow.DataType, dict[str, str]]:
    images = {i: {"bytes": _png(i), "path": None} for i in _needed(tasks)}
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    return "image", images, kind, {"_type": "Image"}


def _png(image_id: str) -> bytes:
    buffer = io.BytesIO()
    # noise hardly shrinks, so little effort is spent on it
    Image.fromarray(benchmark.image(image_id)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _clips(
    tasks: Sequence[str], target: Path, final: Path
) -> tuple[str, dict[str, Any], pyarrow.DataType, dict[str, str]]:
    """Animated pictures beside the tables, which hold their paths, as those of videos do."""
    (target / CLIPS).mkdir()
    paths = {}
    for clip_id in _needed(tasks):
        first, *others = map(Image.fromarray, video.clip(clip_id))
        name = f"{clip_id}.apng"
        first.save(
            target / CLIPS / name,
            save_all=True,
            append_images=others,
            compress_level=1,
            duration=FRAME_MILLISECONDS,
        )
        paths[clip_id] = str(final / CLIPS / name)
    return "video", paths, pyarrow.string(), _TEXT


def _table(
    task: str, name: str, shown: dict[str, Any], kind: pyarrow.DataType, feature: dict[str, str]
) -> pyarrow.Table:
    """`name`, `kind` and `feature` are of the column with what is shown.

    Features are the columns as the datasets library describes them, which makes it decode images.
    """
    items = benchmark_of(task).items(task)
    columns = {
        "item_id": [item.item_id for item in items],
        "image_id": [item.image_id for item in items],
        name: [shown[item.image_id] for item in items],
        "question": [item.question for item in items],
        "answer": [item.answer for item in items],
    }
    fields = [(each, kind if each == name else pyarrow.string()) for each in columns]
    features = {each: feature if each == name else _TEXT for each in columns}
    described = json.dumps({"info": {"features": features}})
    schema = pyarrow.schema(fields, metadata={"huggingface": described})
    return pyarrow.table(columns, schema=schema)
