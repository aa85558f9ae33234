"""`harness table` from the command line: what is printed of records, and what is refused."""

from __future__ import annotations

import resource

import pytest
from command_line import harness
from synthetic_records import accuracy, efficiency

from harness import record as records
from harness.cli import main


@pytest.fixture
def results(tmp_path):
    directory = tmp_path / "results"
    for record in (accuracy("unpruned", None), accuracy(), efficiency()):
        records.write(directory, record)
    return directory


def test_tables_are_printed_again_from_records(results, capsys):
    assert main(["table", str(results)]) == 0
    printed = capsys.readouterr()
    assert printed.out.index("Accuracy") < printed.out.index("Efficiency")
    assert printed.err == ""


def test_torn_and_foreign_records_are_named_and_stay(results, capsys):
    (results / "torn.json.gz").write_bytes(next(results.glob("eff*")).read_bytes()[:50])
    (results / "foreign.json.gz").write_bytes(b"PK")
    assert main(["table", str(results)]) == 0
    printed = capsys.readouterr()
    assert "FastV" in printed.out
    for name in ("torn.json.gz", "foreign.json.gz"):
        assert f"harness: skipping {results / name}: it is torn" in printed.err
        assert (results / name).exists()


def test_several_directories_are_one_table(results, tmp_path, capsys):
    other = tmp_path / "other"
    records.write(other, accuracy("vitcop"))
    assert main(["table", str(results), str(other)]) == 0
    first = capsys.readouterr().out.split("Efficiency")[0]
    assert "FastV" in first
    assert "ViTCoP" in first


def test_directories_without_records_are_refused(tmp_path, capsys):
    assert main(["table", str(tmp_path)]) == 2
    assert f"no records in {tmp_path}" in capsys.readouterr().err
    assert main(["table", str(tmp_path / "none")]) == 2
    assert f"there is no directory {tmp_path / 'none'}" in capsys.readouterr().err


def test_a_table_takes_under_a_second_and_no_torch(tmp_path):
    """Of 40 records with 300 questions each, what the default comparison leaves."""
    tasks = [f"task{n}" for n in range(5)]
    cells = [("unpruned", None), *((m, b) for b in range(1, 5) for m in ("fastv", "vitcop"))]
    for task in tasks:
        for method, budget in cells[:8]:
            records.write(tmp_path, accuracy(method, budget, task, scores=[1.0, 0.0] * 150))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "main(); print({'torch', 'transformers', 'methods', 'pandas'} & set(sys.modules))"
    done = harness("table", str(tmp_path), code=code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.endswith("set()\n")
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert seconds < 1
