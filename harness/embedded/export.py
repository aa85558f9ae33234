"""The benchmark as files for lmms-eval: a parquet and a YAML a task, a group and utils.py."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from string import Template

import pyarrow
from PIL import Image
from pyarrow import parquet

from harness.embedded import benchmark

MANIFEST = "manifest.json"
_TEMPLATES = Path(__file__).parent / "tasks"
_FEATURES = {
    **{name: {"dtype": "string", "_type": "Value"} for name in ("item_id", "image_id")},
    "image": {"_type": "Image"},
    **{name: {"dtype": "string", "_type": "Value"} for name in ("question", "answer")},
}
"""The columns as the datasets library describes them, which makes it decode the images."""


def write(directory: Path, tasks: Sequence[str] = benchmark.TASKS) -> None:
    """Writes tasks to a directory, all files or none; does nothing where they are there already.

    The YAML files name the data by absolute path, so a directory that was moved is written anew.
    Raises ValueError for unknown tasks and for a directory that holds anything else.
    """
    for task in tasks:
        if task not in benchmark.TASKS:
            raise ValueError(f"no task is called {task!r}; there are {', '.join(benchmark.TASKS)}")
    directory = directory.resolve()
    manifest = _manifest(directory, tasks)
    if directory.exists():
        if _is_written(directory, manifest):
            return
        if not directory.is_dir() or (any(directory.iterdir()) and not _is_ours(directory)):
            raise ValueError(f"{directory} holds other files; choose a new or an empty directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        _fill(new, directory, tasks)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if directory.exists():
            directory.rename(old)
        new.rename(directory)


def _manifest(directory: Path, tasks: Sequence[str]) -> dict[str, object]:
    names = ["utils.py", f"{benchmark.GROUP}.yaml"]
    names += [f"{task}.{ending}" for task in tasks for ending in ("parquet", "yaml")]
    return {
        "benchmark": benchmark.DIGEST,
        "version": benchmark.VERSION,
        "directory": str(directory),
        "files": sorted(names),
    }


def _is_ours(directory: Path) -> bool:
    return (directory / MANIFEST).is_file()


def _is_written(directory: Path, manifest: dict[str, object]) -> bool:
    if not _is_ours(directory):
        return False
    files = {path.name for path in directory.iterdir() if path.name != "__pycache__"}
    expected = {MANIFEST, *manifest["files"]}  # type: ignore[misc]
    return files == expected and json.loads((directory / MANIFEST).read_text("utf-8")) == manifest


def _fill(target: Path, final: Path, tasks: Sequence[str]) -> None:
    """Writes the files into `target`; the YAML files name the data by its place in `final`."""
    needed = {item.image_id for task in tasks for item in benchmark.items(task)}
    images = {image_id: _png(image_id) for image_id in sorted(needed)}
    template = Template((_TEMPLATES / "task.yaml.template").read_text("utf-8"))
    for task in tasks:
        parquet.write_table(_table(task, images), target / f"{task}.parquet", compression="none")
        data_file = json.dumps(str(final / f"{task}.parquet"))
        text = template.substitute(task=task, data_file=data_file)
        (target / f"{task}.yaml").write_text(text, encoding="utf-8")
    group = Template((_TEMPLATES / "group.yaml.template").read_text("utf-8"))
    text = group.substitute(tasks=json.dumps(list(tasks)))
    (target / f"{benchmark.GROUP}.yaml").write_text(text, encoding="utf-8")
    shutil.copyfile(_TEMPLATES / "utils.py", target / "utils.py")


def _png(image_id: str) -> bytes:
    buffer = io.BytesIO()
    # noise hardly shrinks, so little effort is spent on it
    Image.fromarray(benchmark.image(image_id)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _table(task: str, images: dict[str, bytes]) -> pyarrow.Table:
    items = benchmark.items(task)
    columns = {
        "item_id": [item.item_id for item in items],
        "image_id": [item.image_id for item in items],
        "image": [{"bytes": images[item.image_id], "path": None} for item in items],
        "question": [item.question for item in items],
        "answer": [item.answer for item in items],
    }
    image = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    fields = [(name, image if name == "image" else pyarrow.string()) for name in columns]
    described = json.dumps({"info": {"features": _FEATURES}})
    schema = pyarrow.schema(fields, metadata={"huggingface": described})
    return pyarrow.table(columns, schema=schema)
