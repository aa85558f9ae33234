"""What `harness` gives to notebooks: known names, loaded when they are asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", harness.__all__)
def test_public_names_are_there(name):
    assert getattr(harness, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = harness.laod


def test_the_package_itself_imports_nothing_heavy():
    code = "import sys, harness; sys.exit(bool({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", ["harness", "methods", "baselines"])
def test_types_are_shipped(package):
    assert (Path(import_module(package).__file__).parent / "py.typed").exists()


def test_questions_and_rounds_of_committed_records():
    frame = harness.load(ROOT / "results/first")
    assert len(frame) == 7 * 5 * 20
    rounds = harness.load_timings(ROOT / "results/first")
    assert set(rounds["cell"]) == set(frame["cell"])


def test_a_comparison_from_python(tmp_path):
    records = harness.compare(
        methods="random",
        budgets="64",
        tasks="embedded_count",
        model="tiny",
        limit=1,
        efficiency=False,
        device="cpu",
        output=tmp_path,
    )
    assert [record.cell.text for record in records] == ["unpruned", "random@64"]
    assert "64 tokens a layer" in harness.tables.text(records)
    assert len(harness.load(tmp_path)) == 2


def test_what_the_command_refuses_is_bad_input(tmp_path):
    with pytest.raises(harness.BadInput, match="unknown option 'limits'; did you mean 'limit'"):
        harness.compare(limits=1, output=tmp_path)
    with pytest.raises(harness.BadInput, match="did you mean 'fastv'"):
        harness.compare(methods="fastw", output=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", [{"match": "flop"}, {"budget_per": "imag"}])
def test_a_word_that_is_none_of_the_options_is_bad_input(tmp_path, word):
    ((name, text),) = word.items()
    with pytest.raises(harness.BadInput, match=f"unknown --{name.replace('_', '-')} '{text}'"):
        harness.compare(output=tmp_path, **word)
    assert not list(tmp_path.iterdir())
