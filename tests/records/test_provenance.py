"""What a record says of its origin, and the digest that decides whether it is used again."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_records import PROVENANCE

from harness.models.placement import machine
from harness.records.provenance import (
    _MEASURING,
    _NOT_MEASURING,
    ROOT,
    code_digest,
    command,
    commit_of,
    provenance,
    versions,
)

READING = ("harness/tables/table.py", "harness/embedded/training/train.py")


def sources(root: Path) -> Path:
    measuring = ("methods/a.py", "baselines/b.py", "harness/accuracy/answers.py")
    files = [name for name in _MEASURING if name.endswith(".py")]
    for name in (*measuring, *files, *READING):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n")
    return root


def test_the_code_digest_follows_what_measures_and_nothing_else(tmp_path):
    root = sources(tmp_path)
    digests = [code_digest(root)]
    for name in ("methods/a.py", "baselines/b.py", "harness/accuracy/answers.py"):
        (root / name).write_text("x = 2\n")
        digests.append(code_digest(root))
    assert len(set(digests)) == 4
    for name in READING:
        (root / name).write_text("x = 2\n")
    (root / "README.md").write_text("")
    assert code_digest(root) == digests[-1]


def test_every_place_that_measures_exists():
    assert [name for name in (*_MEASURING, _NOT_MEASURING) if not (ROOT / name).exists()] == []


def test_origin_names_versions_and_machine(tmp_path):
    assert set(versions()) == {"python", "torch", "transformers", "lmms_eval", "numpy"}
    found = provenance(machine("cpu"))
    assert set(found) >= set(PROVENANCE) | {"driver", "platform", "threads"}
    assert found["device_name"] is None
    assert found["cpu"]
    assert commit_of(tmp_path) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["/bin/harness", "compare", "--limit", "4"], "harness compare --limit 4"),
        (["/src/harness/__main__.py", "list", "methods"], "harness list methods"),
        (["scripts/check answers.py"], "'check answers.py'"),
    ],
)
def test_the_command_is_what_repeats_it(arguments, line):
    assert command(arguments) == line
