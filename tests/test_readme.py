"""The README shows what the records say, and its commands are the ones that CI runs."""

from __future__ import annotations

from readme_blocks import README, ROOT, filled


def test_tables_are_those_of_the_records():
    text = README.read_text()
    assert filled(text) == text


def test_a_changed_number_would_be_seen():
    text = README.read_text()
    assert filled(text.replace("| ViTCoP | 64 | ", "| ViTCoP | 64 | 9")) == filled(text)
    assert text.count("| ViTCoP | 64 | ") >= 2


def test_ci_installs_and_tests_as_the_readme_says():
    text, script = README.read_text(), (ROOT / ".ci" / "run").read_text()
    assert "pip install -c constraints.txt -e '.[test]' && .venv/bin/pytest" in text
    assert "install --quiet -c constraints.txt -e '.[test]'" in script
    assert "\nmake check test slow\n" in script
    assert "\ntest:\n\tpytest " in (ROOT / "Makefile").read_text()
