"""`harness show`: one cell, one item, its picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from synthetic_records import accuracy, efficiency, without_result

from harness.cli.app import BAD_INPUT, main
from harness.records import file as records_module

FIRST = Path(__file__).parents[2] / "results/first"


def test_a_cell_shows_plan_ledger_and_timing(capsys):
    (path,) = FIRST.glob("accuracy-vitcop@64-embedded_count-*")
    assert main(["show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "0–1: 172, 2–21: 77, 22–31: 15" in out
    assert "vision_ratio 0.3" in out
    assert "Promise" in out
    assert "kept" in out
    assert "Prefill" in out
    assert " ms (" in out


def test_a_failed_cell_shows_its_reason(tmp_path, capsys):
    record = without_result("failed", method="fastv", reason="OutOfMemoryError: 3 GiB")
    assert main(["show", str(records_module.write(tmp_path, record))]) == 0
    assert "failed: OutOfMemoryError: 3 GiB" in capsys.readouterr().out


def test_an_efficiency_record_shows_its_table(tmp_path, capsys):
    assert main(["show", str(records_module.write(tmp_path, efficiency()))]) == 0
    assert "Prefill ms" in capsys.readouterr().out


def test_an_item_shows_every_cells_answer_and_its_picture(tmp_path, capsys):
    png = tmp_path / "kept.png"
    command = ["show", str(FIRST), "--item", "embedded_count/0", "--png", str(png)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if "@64" in line] == [
        "fastv@64",
        "vitcop@64",
    ]
    assert "vision 172 of 577" in out
    assert "expected: 0" in out
    assert Image.open(png).size[0] > 1000
    assert main(command) == BAD_INPUT
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--item", "count/9"], "unknown item 'count/9'; did you mean"),
        (["--png", "x.png"], "--png needs --item"),
        ([], "is a directory"),
        (["--item", "count/0", "--png", "x.png"], "its image is not at hand"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(tmp_path, capsys, options, said):
    records_module.write(tmp_path, accuracy())
    assert main(["show", str(tmp_path), *options]) == BAD_INPUT
    assert said in capsys.readouterr().err


def test_what_is_no_record_is_one_sentence(tmp_path, capsys):
    (tmp_path / "x.json.gz").write_bytes(b"x")
    assert main(["show", str(tmp_path / "x.json.gz")]) == BAD_INPUT
    assert main(["show", str(tmp_path / "none.json.gz")]) == BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 2
