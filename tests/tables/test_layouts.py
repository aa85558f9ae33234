"""Layouts and forms of tables are found by name, those of other packages, too."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from harness.cli.app import main
from harness.tables.layouts import LAYOUTS, WRITERS, layout, written_as
from harness.tables.table import Column, Table

FIRST = str(Path(__file__).parents[2] / "results/first")


@pytest.fixture
def outside():
    """What is registered is gone again after the test."""
    with patch.dict(LAYOUTS), patch.dict(WRITERS):
        yield


@pytest.mark.usefixtures("outside")
def test_a_layout_and_a_form_from_outside_the_package(capsys):
    @layout("seeds")
    def seeds(records, style):
        rows = tuple(((record.cell.text,),) for record in records if record.kind == "accuracy")
        return [Table("Cells", (Column("Cell", ("cell",), left=True),), rows)]

    @written_as("words")
    def words(tables):
        return " ".join(parts[0] for table in tables for (parts,) in table.rows)

    assert main(["table", FIRST, "--layout", "seeds", "--format", "words"]) == 0
    assert capsys.readouterr().out.split().count("vitcop@64") == 5
    with pytest.raises(ValueError, match="there is a 'seeds' already"):
        layout("seeds")(seeds)


@pytest.mark.parametrize("option", ["--layout", "--format"])
def test_an_unknown_word_is_refused_with_the_nearest(capsys, option):
    assert main(["table", FIRST, option, "markdwn" if option == "--format" else "papr"]) == 2
    assert "did you mean" in capsys.readouterr().err
