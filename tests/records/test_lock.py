"""One process at a time measures into a directory; what a killed one left is cleared away."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
from synthetic_records import accuracy

from harness.cli.app import main
from harness.errors import BadInput
from harness.records import file as records
from harness.records import lock
from harness.records.lock import LOCK, held
from harness.records.store import opened

COMPARE = ("compare", "--model", "tiny", "--device", "cpu", "--tasks", "embedded_count")


def keep(directory: Path, line) -> None:
    with held(directory):
        line.send("held")
        line.recv()


@contextmanager
def holder(directory: Path):
    """A process of its own that holds the directory."""
    fork = get_context("fork")
    line, other = fork.Pipe()
    process = fork.Process(target=keep, args=(directory, other), daemon=True)
    process.start()
    assert line.recv() == "held"
    try:
        yield process
    finally:
        if process.is_alive():
            line.send("end")
        process.join(10)


def test_the_second_process_is_refused_and_told_of_the_first(tmp_path):
    with holder(tmp_path) as first:
        with pytest.raises(BadInput) as caught, held(tmp_path):
            pytest.fail("both hold it")
        said = str(caught.value)
        assert f"{tmp_path} is in use by process {first.pid} on {socket.gethostname()} si" in said
        assert "since 20" in said
        assert "give another directory" in said
    with held(tmp_path):
        pass


def test_it_is_free_again_in_the_same_process(tmp_path):
    for _ in range(2):
        with held(tmp_path):
            assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
        assert not (tmp_path / LOCK).exists()


def test_a_lock_left_by_a_killed_process_is_taken_over(tmp_path):
    with holder(tmp_path) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.join(10)
        assert f"process {first.pid}" in (tmp_path / LOCK).read_text()
        with held(tmp_path):
            assert f"process {os.getpid()}" in (tmp_path / LOCK).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_holder_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Opened before the holder removed it, locked after: another may hold its successor."""
    path, opened_at = tmp_path / LOCK, []

    def locked(file, locked=lock._lock):
        opened_at.append(os.fstat(file.fileno()).st_ino)
        if len(opened_at) == 1:
            path.unlink()
            path.touch()
        return locked(file)

    monkeypatch.setattr(lock, "_lock", locked)
    with held(tmp_path):
        assert len(opened_at) == 2
        assert path.stat().st_ino == opened_at[1]


def test_what_a_lock_says_reaches_no_terminal_raw(tmp_path):
    with holder(tmp_path):
        (tmp_path / LOCK).write_text("\x1b[31mred\x07\nand more " + "x" * 999)
        with pytest.raises(BadInput, match=r"in use by \[31mred and more x") as caught:
            held(tmp_path).__enter__()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_directory_made_for_nothing_is_gone_again(tmp_path):
    with held(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    with held(tmp_path / "new"):
        (tmp_path / "new" / "record").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["record"]


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot write to .*Not a directory"):
        held(tmp_path / "file" / "deeper").__enter__()


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    path = records.write(tmp_path, accuracy())
    left = [tmp_path / f".{path.name[:40]}.0123abcd.tmp", tmp_path / ".accuracy.md.00000000.tmp"]
    other = [tmp_path / name for name in ("my.tmp", ".mine.tmp", ".x.0123abcd.tmp.gz")]
    for file in (*left, *other):
        file.touch()
    records.read_all([tmp_path], pytest.fail)
    assert all(file.exists() for file in left)
    with opened(tmp_path, pytest.fail):
        assert {file.name for file in tmp_path.iterdir()} == {
            path.name,
            LOCK,
            *(file.name for file in other),
        }


@pytest.mark.parametrize(
    "command",
    [
        COMPARE,
        ("efficiency", "--model", "random:tiny", "--device", "cpu"),
        ("regress", "--against", "RECORDS"),
    ],
    ids=lambda command: command[0],
)
def test_commands_that_measure_are_refused_before_a_model_is_loaded(
    tmp_path, capsys, monkeypatch, command
):
    def load(_):
        pytest.fail("a model is loaded")

    monkeypatch.setattr("harness.models.load.Source.load", load)
    records.write(tmp_path / "records", asked_of_tiny())
    out = tmp_path / "out"
    command = [str(tmp_path / "records") if word == "RECORDS" else word for word in command]
    with holder(out) as first:
        assert main([*command, "-o", str(out)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"{out} is in use by process {first.pid}" in said[0]


def asked_of_tiny():
    record = accuracy(task="embedded_count")
    identity = {**record["identity"], "model": "tiny", "device": "cpu", "dtype": "float32"}
    return {**record, "identity": identity}


def test_commands_that_only_read_ask_for_no_lock(tmp_path, capsys):
    records.write(tmp_path, accuracy("unpruned", None))
    with holder(tmp_path):
        assert main(["table", str(tmp_path)]) == 0
    assert "Unpruned" in capsys.readouterr().out
