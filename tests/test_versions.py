"""The bounds, the lock and the list of tested releases say the same; what CI does with others."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from methods import versions
from methods.versions import TESTED

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "constraints.txt").read_text().splitlines()
NEEDED = [
    Requirement(line)
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
]
BOUNDS = {canonicalize_name(one.name): one.specifier for one in NEEDED}
CHANGED = runpy.run_path(str(ROOT / ".ci" / "changed.py"))


def parted(bounds: SpecifierSet, tested: tuple[str, ...]) -> list[str]:
    """What the bounds admit and nobody tested, and the other way round."""
    minors = sorted({Version(version).release[:2] for version in tested})
    (major, oldest), (_, newest) = minors[0], minors[-1]
    wanted = [(major, minor) for minor in range(oldest, newest + 1)]
    outside = [f"{major}.{oldest - 1}.0", f"{major}.{newest + 1}.0"]
    return [
        *(f"{version} is tested, not admitted" for version in tested if version not in bounds),
        *(f"{version} is admitted, not tested" for version in outside if version in bounds),
        *(f"{minor} is admitted, not tested" for minor in wanted if minor not in minors),
    ]


def test_the_bounds_admit_the_tested_transformers_and_no_others():
    assert parted(BOUNDS["transformers"], TESTED) == []
    assert versions.tested_transformers() == "5.17 to 5.24"


@pytest.mark.parametrize("bounds", [">=5.17", ">=5.17,<6", ">=5.16,<5.25", ">=5.18,<5.25", "<5.24"])
def test_bounds_that_part_from_the_list_are_found(bounds):
    assert parted(SpecifierSet(bounds), TESTED)


def test_a_minor_release_that_is_left_out_is_found():
    assert parted(BOUNDS["transformers"], TESTED[:2] + TESTED[3:])


def test_the_newest_of_what_broke_something_is_bounded():
    assert "2.16.0" not in BOUNDS["torch"]
    assert "0.8.0" not in BOUNDS["lmms-eval"]
    assert "4.3.1" not in BOUNDS["filelock"]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_holds_one_admitted_version_of_everything_needed(python):
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    held = [
        one for one in map(Requirement, LOCK[2:]) if not one.marker or one.marker.evaluate(here)
    ]
    lock = {one.name: str(one.specifier).removeprefix("==") for one in held}
    assert len(lock) == len(held)
    assert set(BOUNDS) <= set(lock)
    assert [name for name, bounds in BOUNDS.items() if lock[name] not in bounds] == []
    assert lock["transformers"] == TESTED[-1]


def test_the_lock_says_how_it_is_made_and_nothing_of_the_machine():
    assert LOCK[1] == "#    make lock"
    assert "\nlock:\n" in (ROOT / "Makefile").read_text()
    assert not [line for line in LOCK[2:] if "://" in line or "@" in line or line.startswith("-")]


def test_readme_and_ci_name_the_tested_range():
    assert f"transformers {versions.tested_transformers()}" in (ROOT / "README.md").read_text()
    script = (ROOT / ".ci" / "run").read_text()
    assert f"\n.ci/transformers {TESTED[0]}\n.ci/transformers newest\n" in script


def test_what_changed_against_the_lock_is_named():
    lock = CHANGED["locked"](
        ["# a comment", "torch==2.14.1", "Some_Name==1 ; sys_platform == 'none'", "Some_Name==2"]
    )
    assert lock == {"torch": "2.14.1", "some-name": "2"}
    present = {"torch": "2.15.0", "some-name": "2", "new": "1"}
    lines = ["- new (not in the lock) → 1", "- torch 2.14.1 → 2.15.0"]
    assert list(CHANGED["changes"](lock, present)) == lines
    assert list(CHANGED["changes"](lock, lock)) == []


def test_what_lies_over_another_installation_is_what_counts(tmp_path, monkeypatch):
    for folder, version in [("above", "9"), ("below", "8")]:
        info = tmp_path / folder / "rich-0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: rich\nVersion: {version}\n")
    monkeypatch.setattr("sys.path", [str(tmp_path / "above"), str(tmp_path / "below")])
    assert CHANGED["installed"]() == {"rich": "9"}


def test_the_newest_are_tried_weekly_and_on_demand_and_a_failure_says_what_changed():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "newest.yml").read_text())
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # YAML reads `on` as true
    steps = workflow["jobs"]["newest"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    assert not [run for run in runs if "constraints.txt" in run]
    assert "pip install --upgrade torch torchvision transformers lmms-eval" in runs
    assert steps[-1]["if"] == "failure()"
    assert ".ci/changed.py" in steps[-1]["run"]
