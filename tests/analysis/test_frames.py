"""Records as frames: one row a question, one row a round."""

from __future__ import annotations

import pytest
from synthetic_records import accuracy, efficiency, without_result

from harness.analysis import frames as results
from harness.errors import BadInput
from harness.records import file as records_module
from harness.records.groups import configurations, read_records
from harness.tables.paper import Style, paper_table

RECORDS = [
    accuracy("unpruned", None),
    accuracy("fastv", 64, scores=[1.0, 0.0, 0.0, 0.0]),
    accuracy("fastv", 64, task="digits", scores=[0.5, 0.25]),
    without_result("failed", method="vitcop", reason="no memory"),
    efficiency(),
]


@pytest.fixture
def directory(tmp_path):
    for record in RECORDS:
        records_module.write(tmp_path, record)
    return tmp_path


def test_a_row_is_an_answered_question(directory):
    frame = results.load(directory)
    assert len(frame) == 4 + 4 + 2
    assert frame["budget"].isna().sum() == 4
    first = frame[frame["label"] == "FastV"].iloc[0]
    assert (first["item"], first["score"], first["counted_tokens"]) == ("count/0", 1.0, 64.0)
    assert set(frame["method"]) == {"unpruned", "fastv"}


def test_its_means_are_the_tables_numbers(directory):
    frame = results.load(directory)
    means = 100 * frame[frame["budget"] == 64].groupby("task")["score"].mean()
    groups, _ = configurations(read_records([directory]))
    table = paper_table(groups, Style())
    fastv = next(row for row in table.rows if row[0][2] == "FastV")
    assert [float(fastv[3][0]), float(fastv[4][0])] == pytest.approx(list(means), abs=0.05)


def test_copies_of_a_directory_count_once(directory):
    assert len(results.load(directory, directory)) == len(results.load(directory))


def test_a_row_of_timings_is_a_round(directory):
    frame = results.load_timings(directory)
    assert len(frame) == 2 * 3
    fastv = frame[frame["method"] == "fastv"]
    assert list(fastv["prefill_seconds"]) == pytest.approx([0.05, 0.055, 0.06])
    assert list(fastv["decode_seconds"]) == pytest.approx([0.004] * 3)


def test_a_directory_without_records_is_said_to_be_so(tmp_path):
    with pytest.raises(BadInput, match="no records in"):
        results.load(tmp_path)
    with pytest.raises(BadInput, match="there is no directory"):
        results.load(tmp_path / "nowhere")
