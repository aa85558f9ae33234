"""`harness table` from the command line: what is printed of records, and what is refused."""

from __future__ import annotations

import io
import os
import resource

import pandas as pd
import pytest
from command_line import harness
from synthetic_records import accuracy, efficiency

from harness.cli.app import main
from harness.records import file as records


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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["table", "--fidelity"], "--fidelity has no effect without --layout paper"),
        (["table", "--layout", "long", "--published"], "--published has no effect without"),
        (["table", "--emphasis", "best"], "--emphasis has no effect without --layout paper"),
        (["table", "--intervals", "small"], "--intervals has no effect without --layout paper"),
        (["table", "--budget", "64"], "--budget has no effect without --published-only"),
        (["table", "--model", "m"], "--model has no effect without --published-only"),
        (["table", "--published-only", "DIR"], "directories has no effect with --published-only"),
        (["table", "--published-only", "--layout", "paper"], "--layout has no effect with"),
        (["show", "--force"], "--force has no effect without --png"),
        (["show", "--png", "a.png"], "--png needs --item"),
        (["regress", "--against", "DIR", "DIR", "-o", "x"], "--output has no effect with CURRENT"),
        (["regress", "--against", "DIR", "--allow-dirty"], "--allow-dirty has no effect without"),
        (
            ["regress", "--against", "b.json", "a.json", "--tolerance", "1"],
            "--tolerance has no effect on benchmarks",
        ),
        (
            ["efficiency", "--device", "cpu", "--allow-busy"],
            "--allow-busy has no effect on a CPU",
        ),
        (
            ["efficiency", "--methods", "unpruned", "--budgets", "9"],
            "--budgets has no effect without a method that prunes",
        ),
    ],
)
def test_options_without_effect_are_refused(results, capsys, arguments, sentence):
    given = [str(results) if word == "DIR" else word for word in arguments]
    assert main(given) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"harness: {sentence}")


def test_force_replaces_regular_files_only(results, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "pipe")
    item = ["show", str(results), "--item", "count/1", "--png"]
    for command in (["report", str(results), "-o"], item):
        assert main([*command, str(tmp_path / "mine")]) == 2
        assert "mine exists; --force replaces it" in capsys.readouterr().err
        for name in ("folder", "link", "pipe", "/dev/null"):
            path = tmp_path / name
            assert main([*command, str(path), "--force"]) == 2
            assert f"{path} is no regular file, so it is not replaced" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine"
    assert main(["report", str(results), "-o", str(tmp_path / "mine"), "--force"]) == 0
    assert "<html" in (tmp_path / "mine").read_text()


@pytest.mark.parametrize("layout", [[], ["--layout", "accuracy"], ["--layout", "paper"]])
def test_csv_is_one_that_pandas_reads(results, capsys, layout):
    other = accuracy()
    other["identity"] = {**other["identity"], "device": "cuda"}
    other["provenance"] = {**other["provenance"], "created": "2027"}
    records.write(results, other)
    assert main(["table", str(results), "--format", "csv", *layout]) == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    if layout[-1:] == ["paper"]:
        assert "table" not in frame
        return
    names = ["1 Accuracy", "2 Accuracy", "3 Efficiency"][: 2 if layout else 3]
    assert list(frame["table"].unique()) == names
    assert list(frame[frame["table"] == "1 Accuracy"]["method"]) == ["Unpruned", "FastV"]
    if not layout:
        assert frame["prefill_ms"].notna().tolist() == [False] * 3 + [True] * 2
        assert frame["mean"].notna().tolist() == [True] * 3 + [False] * 2
