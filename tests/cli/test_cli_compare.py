"""`harness compare` from the command line, with the tiny model: whole, by FLOPs, interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from math import nan

import pytest
from command_line import ROOT

from harness.cli.app import main
from harness.models.load import Source
from harness.records import file as records
from harness.records.ledger import mean_prefill_flops

TINY = ("compare", "--model", "tiny", "--device", "cpu", "--tasks", "embedded_count")


def test_compare_runs_end_to_end_and_goes_on_where_it_was(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [
        *("compare", "--model", "tiny", "--device", "cpu", "--methods", "vitcop,fastv"),
        *("--budgets", "64,20", "--tasks", "embedded_count", "--limit", "2", "--repeats", "2"),
        *("--output", str(out)),
    ]
    assert main(arguments) == 0
    first = capsys.readouterr()
    assert first.out.index("Accuracy") < first.out.index("Efficiency")
    assert first.out.count("infeasible (37–576)") == 2
    assert "FAILED" not in first.out
    assert len(list(out.glob("accuracy-*.json.gz"))) == 5
    assert main(arguments) == 0
    again = capsys.readouterr()
    assert "reused 5 of 5 accuracy records" in again.err
    assert again.out == first.out
    assert main(["table", str(out)]) == 0
    assert capsys.readouterr().out == first.out


def test_methods_are_matched_by_flops(tmp_path, capsys):
    arguments = [
        *("compare", "--model", "tiny", "--device", "cpu", "--methods", "fastv,random"),
        *("--match", "flops", "--budgets", "128", "--tasks", "embedded_count", "--limit", "1"),
        *("--no-efficiency", "--output", str(tmp_path)),
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("128 tokens in FLOPs a layer") == 1
    flops = [
        mean_prefill_flops(record.ledger, record.shape)
        for record in map(records.read, sorted(tmp_path.glob("*@128*.gz")))
    ]
    assert len(flops) == 2
    assert max(flops) < 1.02 * min(flops)


@pytest.mark.parametrize("command", ["compare", "efficiency"])
@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_a_setting_that_is_no_number_is_refused(tmp_path, capsys, command, value):
    """No record could name it, so nothing measured with it could be kept."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom baselines.fastv import FastV\n"
        "@dataclass(frozen=True)\nclass Mine(FastV):\n    share: float = 0.5\n"
    )
    options = ["--methods", f"{file}:Mine:share={value}", "--model", "tiny", "-o", str(tmp_path)]
    assert main([command, *options]) == 2
    setting = f"{file.name}:Mine:share={value}"
    sentence = f"harness: {setting}: share is {value}; a setting must be a finite number"
    assert capsys.readouterr().err.splitlines() == [sentence]
    assert list(tmp_path.iterdir()) == [file]


def test_weights_that_are_no_numbers_stop_the_comparison_in_one_sentence(
    tmp_path, capsys, monkeypatch
):
    load = Source.load

    def spoilt(source):
        loaded = load(source)
        loaded.model.model.language_model.layers[-1].mlp.down_proj.weight.data[0, 0] = nan
        return loaded

    monkeypatch.setattr(Source, "load", spoilt)
    arguments = ["--methods", "fastv", "--budgets", "64", "--limit", "3", "--repeats", "1"]
    assert main([*TINY, *arguments, "--output", str(tmp_path)]) == 1
    told = capsys.readouterr()
    stops = [line for line in told.err.splitlines() if line.startswith("the comparison stops")]
    assert len(stops) == 1
    assert "unpruned failed on embedded_count: SampleError: embedded_count/" in stops[0]
    assert stops[0].endswith(": the logits are not finite in float32")
    assert "%" not in told.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, -15)]
)
def test_an_interrupted_comparison_loses_and_repeats_nothing(tmp_path, capsys, sign, status):
    """In a process of its own, stopped as soon as two records are there."""
    out = tmp_path / "out"
    arguments = [
        *("compare", "--model", "tiny", "--device", "cpu", "--methods", "fastv"),
        *("--budgets", "64", "--tasks", "embedded_count,embedded_digits,embedded_position"),
        *("--limit", "2", "--no-efficiency", "--output"),
    ]
    # a test run in the background of a shell is born deaf to SIGINT, and so would its children be
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = "import sys; from harness.cli.app import main; sys.exit(main())"
    script = [sys.executable, "-c", f"{hear}; {start}"]
    process = subprocess.Popen(
        [*script, *arguments, str(out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.json.gz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(sign)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert (b"the same command goes on from there" in said) == (sign == signal.SIGINT)
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json.gz")}
    assert 2 <= len(finished) < 6
    assert main([*arguments, str(out)]) == 0
    again = capsys.readouterr()
    assert f"reused {len(finished)} of 6 accuracy records" in again.err
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json.gz")}
    assert len(kept) == 6
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert finished.items() <= kept.items()
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    assert capsys.readouterr().out == again.out
