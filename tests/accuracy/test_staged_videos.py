"""lmms-eval's tasks of videos, by name and offline: scores, and what records and tables say."""

from __future__ import annotations

import pytest
import staged_runs
from staged_rows import VIDEOS
from staged_tasks import speller, stage, stage_videos
from video_checkpoints import WITH_VIDEOS

from harness.records.record import Record
from harness.tables.layouts import tables

ROWS = 24
CELLS = {
    "unpruned": ",frames=4",
    "vidcom2@20": ",method=vidcom2,budget=20,frames=4",
}
TASKS = [data.task for data in VIDEOS]


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[list[Record], dict[str, staged_runs.Printed]]:
    """Our records, and what lmms-eval printed by cell."""
    home = tmp_path_factory.mktemp("home")
    stage(home, list(VIDEOS), ROWS)
    stage_videos(home, VIDEOS.values(), ROWS // 3)
    WITH_VIDEOS["onevision"](home / "speller")
    speller(home / "speller")
    words = "--methods vidcom2 --budgets 20 --frames 4"
    return staged_runs.both(home, home / "speller", TASKS, words, CELLS)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_scores_are_those_of_lmms_evals_command_line(both, cell):
    ours, theirs = both
    found = {record.task: record for record in ours if record.cell.text == cell}
    assert found.keys() == set(TASKS)
    for task, record in found.items():
        assert len(record.samples) == ROWS
        (printed,) = record.body["printed"].items()
        assert theirs[cell][task][printed[0]] == printed[1]
        assert 0 < printed[1] < 100


@pytest.mark.slow
def test_records_and_tables_tell_the_frames_and_what_was_counted(both):
    for record in both[0]:
        assert record.identity.frames == 4
        counted = record.ledger[0].mean_entering
        # four frames of nine tokens, and a newline
        assert counted == pytest.approx(37 if record.cell.is_unpruned else 20, abs=1)
        assert len(set(record.samples.images)) == ROWS // 3
    (table,) = tables(both[0])
    assert "· 4 frames ·" in table.notes[-1]
    assert table.about.endswith("· 4 frames")
