"""What a record says of its origin, and the digest that decides whether it is used again."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_records import PROVENANCE

from harness.provenance import code_digest, command, commit_of, provenance, versions


def sources(root: Path) -> Path:
    measuring = ("methods/a.py", "baselines/b.py", "harness/accuracy.py")
    for name in (*measuring, "harness/tables.py", "harness/regress/gate.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x = 1\n")
    return root


def test_the_code_digest_follows_what_measures_and_nothing_else(tmp_path):
    root = sources(tmp_path)
    digests = [code_digest(root)]
    for name in ("methods/a.py", "baselines/b.py", "harness/accuracy.py"):
        (root / name).write_text("x = 2\n")
        digests.append(code_digest(root))
    assert len(set(digests)) == 4
    for name in ("harness/tables.py", "harness/regress/gate.py"):
        (root / name).write_text("x = 2\n")
    (root / "README.md").write_text("")
    assert code_digest(root) == digests[-1]


def test_every_module_that_is_left_out_of_the_digest_exists():
    from harness.provenance import _NOT_MEASURING, ROOT

    places = {name: ROOT / "harness" / name for name in _NOT_MEASURING}
    missing = {n for n, p in places.items() if not (p.with_suffix(".py").exists() or p.is_dir())}
    assert missing == set()


def test_origin_names_versions_and_machine(tmp_path):
    assert set(versions()) == {"python", "torch", "transformers", "lmms_eval", "numpy"}
    found = provenance("cpu")
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
