"""Clips as files: every frame of them, exactly, for lmms-eval and for the harness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from harness.accuracy.videos import decoded
from harness.embedded import export
from harness.embedded.video import benchmark
from harness.errors import BadInput

TASK = "embedded_video_change"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clips") / "tasks"
    export.write(directory, [TASK])
    return directory


def test_rows_name_files_that_hold_every_frame_exactly(written: Path) -> None:
    rows = parquet.read_table(written / f"{TASK}.parquet").to_pylist()
    items = benchmark.items(TASK)
    assert [(r["item_id"], r["question"], r["answer"]) for r in rows] == [
        (i.item_id, i.question, i.answer) for i in items
    ]
    for row, item in list(zip(rows, items, strict=True))[:5]:
        video = decoded(row["video"], 8)
        assert (video.frames == benchmark.clip(item.image_id)).all()
        assert (video.places, video.total, video.fps) == (tuple(range(8)), 8, 4.0)


def test_fewer_frames_are_the_first_the_last_and_between(written: Path) -> None:
    path = next((written / export.CLIPS).iterdir())
    every, three = decoded(str(path), 8), decoded(str(path), 3)
    assert three.places == (0, 3, 7)
    assert (three.frames == every.frames[[0, 3, 7]]).all()


def test_a_group_of_its_own_and_a_second_write_that_changes_nothing(written: Path) -> None:
    names = sorted(path.name for path in written.iterdir())
    assert names == sorted(
        [
            "clips",
            "embedded-video.yaml",
            f"{TASK}.parquet",
            f"{TASK}.yaml",
            "manifest.json",
            "utils.py",
        ]
    )
    manifest = json.loads((written / export.MANIFEST).read_text())
    assert manifest["benchmarks"] == {"embedded-video": f"1.0-{benchmark.DIGEST}"}
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*.*")}
    export.write(written, [TASK])
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*.*")} == before


def test_a_broken_clip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.apng"
    path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(BadInput, match=r"the video .*broken\.apng cannot be read"):
        decoded(str(path), 8)


def test_a_picture_that_does_not_move_is_its_only_frame(tmp_path: Path) -> None:
    path = tmp_path / "still.apng"
    Image.fromarray(np.full((4, 6, 3), 7, np.uint8)).save(path, format="PNG")
    video = decoded(str(path), 2)
    assert (video.total, video.fps, video.frames.shape) == (1, None, (2, 4, 6, 3))
