"""Tables of a whole benchmark, 160 records of 300 questions each, from files to text."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import main

RECORDS = Path(__file__).parents[2] / "results" / "benchmark"


@pytest.mark.benchmark(group="tables")
@pytest.mark.parametrize("layout", ["accuracy", "paper"])
def test_tables_of_the_whole_benchmark(benchmark, layout: str):
    command = ["table", str(RECORDS), "--layout", layout, "--format", "csv"]
    status = benchmark.pedantic(main, (command,), rounds=10, warmup_rounds=1)
    assert status == 0
