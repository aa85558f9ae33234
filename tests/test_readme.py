"""README and docs show what the records say, their commands run, and their links lead somewhere."""

from __future__ import annotations

import re

import pytest
from readme_blocks import BLOCKS, PAGES, README, ROOT, filled


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_those_of_the_records(page):
    text = page.read_text()
    assert filled(text) == text


def test_every_block_is_on_a_page():
    begun = [
        name for page in PAGES for name in re.findall(r"<!-- begin: (\w+) -->", page.read_text())
    ]
    assert sorted(begun) == sorted(BLOCKS)


def test_a_changed_number_would_be_seen():
    text = (ROOT / "docs/benchmark.md").read_text()
    assert filled(text.replace("| ViTCoP | 63.6 | ", "| ViTCoP | 963.6 | ")) == text
    assert "| ViTCoP | 63.6 | " in text


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", ROOT / "results/README.md"],
    ids=str,
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


def anchors(text: str) -> set[str]:
    """Of headings, as code hosts name them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 160


def test_ci_installs_and_tests_as_the_readme_says():
    text, script = README.read_text(), (ROOT / ".ci" / "run").read_text()
    assert "pip install -c constraints.txt -e '.[test]' && .venv/bin/pytest" in text
    assert "install --quiet -c constraints.txt -e '.[test]'" in script
    assert "\nmake check test slow\n" in script
    assert "\ntest:\n\tpytest " in (ROOT / "Makefile").read_text()
