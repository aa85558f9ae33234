"""The exported files are ordinary lmms-eval tasks, written whole or not at all."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from harness.embedded import benchmark, export


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "tasks"
    export.write(directory)
    return directory


def test_rows_hold_the_items_and_their_exact_pixels(written: Path) -> None:
    rows = parquet.read_table(written / "embedded_count.parquet").to_pylist()
    items = benchmark.items("embedded_count")
    assert [(r["item_id"], r["image_id"], r["question"], r["answer"]) for r in rows] == [
        (i.item_id, i.image_id, i.question, i.answer) for i in items
    ]
    pixels = np.asarray(Image.open(io.BytesIO(rows[0]["image"]["bytes"])))
    assert (pixels == benchmark.image(items[0].image_id)).all()


def test_a_second_write_changes_nothing(written: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in written.iterdir()}
    export.write(written)
    assert {path.name: path.stat().st_mtime_ns for path in written.iterdir()} == before
    assert not [p for p in written.parent.iterdir() if p != written]


def test_missing_files_and_other_tasks_are_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_png", lambda image_id: image_id.encode())  # encoding takes long
    directory = tmp_path / "new" / "tasks"
    export.write(directory, ["embedded_digits"])
    (directory / "embedded_digits.parquet").unlink()
    export.write(directory, ["embedded_digits"])
    assert (directory / "embedded_digits.parquet").is_file()
    export.write(directory, ["embedded_count"])
    assert sorted(p.name for p in directory.iterdir()) == [
        "embedded.yaml",
        "embedded_count.parquet",
        "embedded_count.yaml",
        "manifest.json",
        "utils.py",
    ]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(export, "_fill", fail)
    with pytest.raises(OSError, match="disk full"):
        export.write(tmp_path / "tasks")
    assert not list(tmp_path.iterdir())


def test_other_peoples_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds other files"):
        export.write(tmp_path)
    with pytest.raises(ValueError, match="no task is called 'count'"):
        export.write(tmp_path / "x", ["count"])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_utils_work_by_path(written: Path) -> None:
    spec = importlib.util.spec_from_file_location("utils_by_path", written / "utils.py")
    assert spec is not None
    assert spec.loader is not None
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    doc = {"question": "how many crosses ?", "answer": "3", "image": Image.new("L", (4, 4))}
    assert utils.doc_to_visual(doc)[0].mode == "RGB"
    assert utils.doc_to_text(doc) == "how many crosses ?"
    assert utils.doc_to_text(doc, {"post_prompt": " now"}) == "how many crosses ? now"
    assert utils.process_results(doc, [" 3\n"]) == {"acc": 1.0}
    assert utils.process_results(doc, ["3 3"]) == {"acc": 0.0}
    assert utils.process_results({"answer": "top-left"}, ["Top-Left"]) == {"acc": 1.0}


def test_lmms_eval_runs_the_group(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that always says "yes" earns the majority of existence and nothing elsewhere."""
    for name in ("HF_DATASETS_CACHE", "LMMS_EVAL_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    from lmms_eval.api.model import lmms
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    seen: list[Any] = []

    class Yes(lmms):
        is_simple = True

        def generate_until(self, requests: list[Any]) -> list[str]:
            for request in requests:
                text, kwargs, visual, doc_id, task, split = request.args
                images = visual(self.task_dict[task][split][doc_id])
                seen.append((text, kwargs["max_new_tokens"], images[0].size, len(images)))
            return ["yes"] * len(requests)

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            raise NotImplementedError

        def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
            raise NotImplementedError

    manager = TaskManager(include_path=str(written), include_defaults=False)
    assert set(benchmark.TASKS) <= set(manager.all_tasks)
    results = simple_evaluate(
        model=Yes(),
        tasks=["embedded"],
        task_manager=manager,
        limit=6,
        bootstrap_iters=0,
        process_docs_parallel=1,
    )
    assert len(seen) == 30
    assert all(row[1:] == (4, (168, 168), 1) for row in seen)
    first = benchmark.items("embedded_existence")[:6]
    share = sum(item.answer == "yes" for item in first) / 6
    assert results["results"]["embedded_existence"]["acc,none"] == pytest.approx(share)
    assert results["results"]["embedded_digits"]["acc,none"] == 0
    assert results["results"]["embedded"]["acc,none"] == pytest.approx(share / 5)
    assert results["versions"]["embedded_count"] == 1.0
    json.dumps([sample["doc"] for sample in results["samples"]["embedded_count"]])
