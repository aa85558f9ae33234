"""`harness compare` from the command line, with the tiny model: whole, by FLOPs, interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from command_line import ROOT

from harness import record as records
from harness.cli import main
from harness.ledger import mean_prefill_flops


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
    assert capsys.readouterr().out.count("128 in FLOPs") == 2
    flops = [
        mean_prefill_flops(record["ledger"], record["shape"])
        for record in map(records.read, sorted(tmp_path.glob("*@128*.gz")))
    ]
    assert len(flops) == 2
    assert max(flops) < 1.02 * min(flops)


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
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
    start = "import sys; from harness.cli import main; sys.exit(main())"
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
    assert finished.items() <= kept.items()
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    assert capsys.readouterr().out == again.out
