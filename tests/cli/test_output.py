"""Standard output that cannot show everything, is full, closed, or not read to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from command_line import ROOT
from from_bodies import made
from stand_ins import asked
from synthetic_records import accuracy, efficiency

from harness.cli.app import main
from harness.cli.output import OutputLostError
from harness.cli.results import finished
from harness.records import file as records


def run(*arguments: str, **how) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "harness", *arguments]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.run(command, cwd=ROOT, timeout=60, **how)


@pytest.fixture
def results(tmp_path):
    for record in (accuracy("unpruned", None), accuracy(), efficiency()):
        records.write(tmp_path, record)
    return str(tmp_path)


def test_a_bare_command_prints_its_help_and_nothing_more():
    done = run()
    assert done.returncode == 0
    assert b"Usage: harness" in done.stdout
    assert done.stderr == b""


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "harness 0.1.0\n"


def test_an_encoding_without_dashes_shows_the_rest(results):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run("table", results, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"FastV" in done.stdout
    assert done.stdout.isascii()
    assert "–".encode() in run("table", results).stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("command", ["table", "help", "version"])
def test_a_full_output_is_one_sentence(results, command):
    arguments = {"table": ["table", results], "help": ["--help"], "version": ["--version"]}
    with open("/dev/full", "w") as full:
        done = run(*arguments[command], stdout=full)
    assert done.returncode == 2
    line = b"harness: cannot write to standard output: No space left on device\n"
    assert done.stderr == line


@pytest.mark.parametrize("command", ["table", "help"])
def test_a_reader_that_goes_away_is_no_error(results, command):
    reading, writing = os.pipe()
    os.close(reading)
    arguments = {"table": ["table", results], "help": ["--help"]}[command]
    try:
        done = run(*arguments, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_closed_output_is_no_error(results):
    script = f"'{sys.executable}' -m harness table '{results}' >&-"
    done = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


class Lost:
    """A terminal that is gone."""

    def isatty(self):
        return False

    def write(self, text):
        raise OutputLostError(BrokenPipeError(32, "Broken pipe"))


def test_tables_are_files_before_they_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Lost())
    bodies = [accuracy(), efficiency()]
    for body in bodies:
        records.write(tmp_path, body)
    with pytest.raises(OutputLostError):
        finished(asked(tmp_path, report=True), nullcontext(made(bodies)))
    written = {path.name for path in tmp_path.iterdir() if path.suffix != ".gz"}
    tables = {"accuracy.md", "accuracy.csv", "efficiency.md", "efficiency.csv"}
    assert written == {*tables, "report.html"}


def test_the_gate_writes_its_files_before_it_shows_the_table(tmp_path, monkeypatch):
    records.write(tmp_path / "records", accuracy("unpruned", None))
    monkeypatch.setattr(sys, "stdout", Lost())
    side, page = str(tmp_path / "records"), tmp_path / "gate.md"
    monkeypatch.setattr("harness.cli.app.guarded_output", nullcontext)
    assert main(["regress", "--against", side, side, "--markdown", str(page)]) == 141
    assert page.read_text().startswith("**Regression gate: no regression**")
