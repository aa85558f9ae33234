"""Records: whole or not there, equal bytes for equal content, and nothing foreign is read."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic_records import accuracy, efficiency, without_result

from harness.records import file as records


def test_a_record_reads_back_whole_and_its_outline_without_details(tmp_path):
    record = accuracy()
    path = records.write(tmp_path, record)
    assert records.read(path).body == record
    outline = records.read_outline(path).body
    assert outline == records.outline(record)
    assert outline["samples"][0] == {
        key: value
        for key, value in record["samples"][0].items()
        if key not in ("first_token", "selections")
    }
    assert {**outline, "samples": 0} == {**record, "samples": 0}


def test_a_sample_that_was_not_cut_says_so_in_the_outline(tmp_path):
    path = records.write(tmp_path, accuracy("unpruned", None))
    assert records.read_outline(path).body["samples"][0]["selections"] == []


def test_any_other_reader_finds_one_json_document(tmp_path):
    path = records.write(tmp_path, accuracy())
    document = json.loads(gzip.decompress(path.read_bytes()))
    assert document["schema"] == 1
    assert document["details"][0]["first_token"] == {"ids": [1, 2], "logprobs": [-0.5, -1.5]}


@pytest.mark.parametrize(
    "record", [efficiency(), without_result("infeasible", feasible=[37, 576], reason="r")]
)
def test_records_without_samples_read_back(tmp_path, record):
    path = records.write(tmp_path, record)
    assert records.read(path).body == records.read_outline(path).body == record


def test_equal_content_gives_equal_bytes_and_names(tmp_path):
    first = records.write(tmp_path / "a", accuracy())
    second = records.write(tmp_path / "b", json.loads(json.dumps(accuracy())))
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_the_name_tells_kind_cell_and_task_and_is_safe():
    name = records.file_name(accuracy(method="sparsevlm:variant=../x", task="a/b"))
    assert name.startswith("accuracy-sparsevlm_variant=.._x@64-a_b-")
    assert name.endswith(".json.gz")
    assert records.file_name(efficiency()).startswith("efficiency-")
    assert len(records.file_name(accuracy(method="m" * 500))) < 255


def test_the_name_changes_with_every_part_of_the_identity():
    base = accuracy()
    names = {records.file_name(base)}
    for key, value in base["identity"].items():
        changed = {**base["identity"], key: f"{value}x"}
        names.add(records.file_name({**base, "identity": changed}))
    assert len(names) == len(base["identity"]) + 1


def test_the_same_identity_replaces_the_file(tmp_path):
    records.write(tmp_path, without_result("failed", reason="no memory"))
    records.write(tmp_path, accuracy())
    (record,) = records.read_all([tmp_path], pytest.fail)
    assert record.status == "ok"


def test_what_cannot_be_json_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        records.write(tmp_path / "new", accuracy(wall_seconds=float("nan")))
    assert not (tmp_path / "new").exists()


def test_a_failure_before_the_rename_leaves_the_old_record_and_no_partial_file(
    tmp_path, monkeypatch
):
    path = records.write(tmp_path, accuracy())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        records.write(tmp_path, accuracy(wall_seconds=2.0))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_sigkill_at_any_moment_leaves_whole_records_only(tmp_path):
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from synthetic_records import accuracy; from harness.records import file\n"
        "for n in range(10**6): file.write(Path(sys.argv[1]), accuracy(seed=n % 50, "
        "scores=[1.0] * 200))"
    )
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            script,
            str(tmp_path),
            str(Path(accuracy.__code__.co_filename).parent),
        ],
        cwd=Path(__file__).parents[2],
    )
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("*.json.gz"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    found = list(records.read_all([tmp_path], pytest.fail))
    assert len(found) >= 20
    assert all(len(record.samples) == 200 for record in found)


@pytest.mark.parametrize("kept", [0, 1, 10, 0.3, 0.9, 0.999])
def test_torn_files_are_named_and_left_alone(tmp_path, kept):
    path = records.write(tmp_path, accuracy(scores=[1.0] * 50))
    whole = path.read_bytes()
    torn = whole[: int(len(whole) * kept) if isinstance(kept, float) else kept]
    path.write_bytes(torn)
    warnings: list[str] = []
    assert list(records.read_all([tmp_path], warnings.append)) == []
    assert len(warnings) == 1
    assert str(path) in warnings[0]
    assert "torn" in warnings[0]
    assert path.read_bytes() == torn


def test_a_flipped_byte_is_noticed_in_the_details_too(tmp_path):
    path = records.write(tmp_path, accuracy(scores=[1.0] * 50))
    content = bytearray(path.read_bytes())
    content[-12] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(records.UnreadableRecordError, match="torn"):
        records.read_outline(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"not gzip at all", "torn or not a record"),
        (gzip.compress(b"not json", mtime=0) * 2, "not a record of this harness"),
        (gzip.compress(b"[1", mtime=0) + gzip.compress(b",2]", mtime=0), "not a record"),
        (
            gzip.compress(b'{"a": 1', mtime=0) + gzip.compress(b"}", mtime=0),
            "not a record of this harness",
        ),
        (gzip.compress(b'{"kind": "accuracy"}', mtime=0), "torn or not a record"),
    ],
)
def test_foreign_files_are_named_and_skipped(tmp_path, content, why):
    foreign = tmp_path / "other.json.gz"
    foreign.write_bytes(content)
    records.write(tmp_path, accuracy())
    (tmp_path / "notes.txt").write_text("mine")
    warnings: list[str] = []
    assert len(list(records.read_all([tmp_path], warnings.append))) == 1
    assert len(warnings) == 1
    assert why in warnings[0]
    assert foreign.read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema": 2}, "its schema is 2, not 1"),
        ({"schema": None}, "its schema is None"),
        ({"kind": "picture"}, "not a record"),
        ({"identity": None}, "it lacks an identity"),
    ],
)
def test_records_of_another_schema_are_not_read(changes, why):
    with pytest.raises(records.UnreadableRecordError, match=why):
        records.checked({**accuracy(), **changes})


def test_an_ok_record_must_hold_what_tables_need():
    record = accuracy()
    del record["ledger"]
    with pytest.raises(records.UnreadableRecordError, match="it lacks ledger"):
        records.checked(record)
    assert records.checked(without_result("failed", reason="r"))
