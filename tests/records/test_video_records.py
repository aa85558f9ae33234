"""Records of tasks that show videos: how many frames, beside tasks of images."""

from __future__ import annotations

import pytest
from from_bodies import requests_of
from record_sets import with_identity
from synthetic_records import accuracy

from harness.analysis.boards import boards
from harness.errors import BadInput
from harness.records import file as records
from harness.records.groups import left_out
from harness.records.record import Record, record_of
from harness.tables.layouts import tables


def of_videos(frames: int, day: int = 1) -> list[Record]:
    """Unpruned and FastV on a task of videos."""
    created = {"created": f"2026-01-0{day}T00:00:00+00:00"}
    found = [accuracy("unpruned", None, "clips"), accuracy("fastv", 64, "clips")]
    for body in found:
        body["provenance"] = {**body["provenance"], **created}
    return [record_of(with_identity(body, frames=frames)) for body in found]


def of_images() -> list[Record]:
    return [record_of(accuracy("unpruned", None)), record_of(accuracy("fastv", 64))]


def test_tasks_of_images_and_of_videos_share_a_table_that_tells_the_frames():
    (table,) = tables([*of_images(), *of_videos(8)])
    assert "· 8 frames ·" in table.notes[-1]
    assert table.about.endswith("· 8 frames")
    assert {"count", "clips"} <= {column.title for column in table.columns}
    (plain,) = tables(of_images())
    assert "frames" not in f"{plain.notes} {plain.about}"


def test_answers_about_other_frames_share_no_table(tmp_path):
    old, new = of_videos(8), of_videos(16, day=2)
    (table,) = tables([*old, *new])
    assert "· 16 frames ·" in table.notes[-1]
    assert left_out([*old, *new]) == [
        "clips of version 1.0 of 8 frames is left out, 1.0 of 16 frames is newer"
    ]
    with pytest.raises(BadInput, match="how many frames clips shows is 8 and 16"):
        boards({tmp_path / "old": old, tmp_path / "new": new})


def test_a_baseline_is_run_again_with_as_many_frames(tmp_path):
    bodies = [with_identity(accuracy("fastv", 64, "clips"), frames=16), accuracy("fastv", 64)]
    asked = {request.tasks: request.frames for request in requests_of(bodies, tmp_path)}
    assert asked == {("clips",): 16, ("count",): 8}


def test_a_record_without_frames_is_no_record_of_videos():
    with pytest.raises(records.UnreadableRecordError, match="frames"):
        records.checked(with_identity(accuracy(), frames=0))
