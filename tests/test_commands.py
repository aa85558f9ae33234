"""Every command of the README and of docs runs, smaller where it would take long."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from readme_blocks import PAGES, ROOT

from harness.cli.app import main

FIRST = ROOT / "results/first"
ELSEWHERE = {
    "python3 -m venv": "CI installs and tests so (test_readme.py)",
    "python -m lmms_eval": "tests/accuracy/test_lmms.py runs it on the tiny model",
    "harness compare --methods vitcop,fastv --model llava-hf/": "needs the checkpoint and data",
    "scripts/gpu_benchmarks.sh": ".ci/run runs it with --small",
    "chromium ": "tests/tables/test_report_in_a_browser.py opens it where there is a Chromium",
    "harness regress --against results/baselines/embedded": "CI runs it on every pull request",
}
"""How a command begins that is not run here, and what runs it or is missing."""
SMALLER = {
    "compare": "--model tiny --device cpu --tasks embedded_count --limit 1 --no-efficiency",
    "efficiency": "--model random:tiny --device cpu --budgets 64 --batch-size 1 --repeats 1 "
    "--methods random --new-tokens 2",
}
"""Options that make a command quick, in place of its own."""
ONE_VALUE = re.compile(r" (?:--limit|--model|--repeats|--batch-size|--new-tokens) \S+")


def fenced(text: str) -> list[str]:
    """Lines of blocks without a language, which are commands."""
    found, inside, language = [], False, ""
    for line in text.splitlines():
        if line.startswith("```"):
            inside, language = not inside, line[3:]
        elif inside and not language:
            found.append(line)
    return found


COMMANDS = list(dict.fromkeys(line for page in PAGES for line in fenced(page.read_text())))
HERE = [line for line in COMMANDS if not line.startswith(tuple(ELSEWHERE))]


def test_no_reason_is_left_without_its_command():
    for begins in ELSEWHERE:
        assert any(line.startswith(begins) for line in COMMANDS), begins


def smaller(line: str, place: Path) -> list[str]:
    """Its words, on committed records, with files going to `place`."""
    line = line.partition(" > ")[0].replace("results/local", str(FIRST))
    line = line.replace("results/benchmark ", "")
    name = line.split()[1]
    if name in SMALLER:
        methods = re.sub(r"\S*all\S*", "all", (re.findall(r"--methods (\S+)", line) or ["all"])[0])
        line = f"harness {name} {SMALLER[name]}"
        line += f" --methods {methods} --budgets 192" if name == "compare" else ""
        return shlex.split(f"{line} --output {place / 'records'}")[1:]
    line = re.sub(r"(-o|--output|--png) \S+", lambda m: f"{m[1]} {place / 'file'}", line)
    line = line.replace("--png " + str(place / "file"), "--png " + str(place / "kept.png"))
    return shlex.split(line)[1:]


@pytest.mark.parametrize("line", HERE)
def test_a_command_runs(line, tmp_path, capsys):
    assert line.startswith("harness ")
    assert main(smaller(line, tmp_path)) in (0, None), capsys.readouterr().err
