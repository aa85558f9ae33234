"""A user's file and what it imports: digested, and loaded anew when any of it changes."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from methods import PruningError, get_method, registry
from methods.registry import file_digest, load_method

METHOD = """
from dataclasses import dataclass
{imports}
from methods import Method

@dataclass(frozen=True)
class Mine(Method):
    def solve(self, budget, sizes):
        {within}
        return {value}
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes files into a folder from which they can be imported, and returns the folder."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)

    def write(**contents: str) -> Path:
        for name, content in contents.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        return tmp_path

    yield write
    for name in set(sys.modules) - modules:
        if not name.startswith("user_method_"):
            del sys.modules[name]


def method(imports: str = "", value: str = "K", within: str = "pass") -> str:
    return METHOD.format(imports=imports, within=within, value=value)


def solved(folder: Path, digest: str = ""):
    return load_method(folder / "my.py", "Mine", digest).solve(None, None)


def test_a_file_alone_has_its_own_digest(files):
    folder = files(my=method("import json, torch\nfrom methods.planning import half_up", "7"))
    own = hashlib.sha256((folder / "my.py").read_bytes()).hexdigest()
    assert file_digest(folder / "my.py") == own


@pytest.mark.parametrize(
    ("imports", "within", "value"),
    [
        ("from helper import K", "pass", "K"),
        ("import helper", "pass", "helper.K"),
        ("import helper as other", "pass", "other.K"),
        ("", "from helper import K", "K"),
        ("from between import K", "pass", "K"),
        ("from package import K", "pass", "K"),
        ("from package.inner import K", "pass", "K"),
        ("import importlib\nhelper = importlib.import_module('helper')", "pass", "helper.K"),
    ],
)
def test_a_changed_helper_changes_digest_and_result_and_an_unchanged_one_neither(
    files, imports, within, value
):
    folder = files(
        my=method(imports, value, within),
        helper="K = 1",
        between="from helper import K",
        **{"package/__init__": "from .inner import K", "package/inner": "from helper import K"},
    )
    first = file_digest(folder / "my.py")
    assert solved(folder) == 1
    files(unrelated="K = 3")
    assert file_digest(folder / "my.py") == first
    files(helper="K = 2")  # as long as before, and within the same second
    second = file_digest(folder / "my.py")
    assert second != first
    assert solved(folder) == 2
    assert solved(folder, second) == 2
    if imports:  # an import within a function is of when it runs
        assert solved(folder, first) == 1
    files(helper="K = 1")
    assert file_digest(folder / "my.py") == first
    assert solved(folder) == 1


def test_a_helper_that_was_imported_before_is_imported_anew(files):
    folder = files(my=method("from helper import K"), helper="K = 1")
    import helper  # noqa: F401

    files(helper="K = 2")
    assert solved(folder) == 2


def test_an_edited_file_is_loaded_anew_and_its_earlier_version_stays(files):
    folder = files(my=method(value="1"))
    first, earlier = file_digest(folder / "my.py"), load_method(folder / "my.py", "Mine")
    assert load_method(folder / "my.py", "Mine") == earlier
    files(my=method(value="2"))
    assert (solved(folder), solved(folder, first)) == (2, 1)
    assert load_method(folder / "my.py", "Mine") != earlier
    (folder / "my.py").unlink()
    assert solved(folder, first) == 1


def test_a_helper_that_was_mended_is_imported_anew(files):
    folder = files(my=method("import helper\nassert helper.K", "helper.K"), helper="K = 0")
    with pytest.raises(PruningError, match="does not import: AssertionError"):
        solved(folder)
    files(helper="K = 1")
    assert solved(folder) == 1


def test_a_file_that_opens_another_in_vain_is_not_called_unreadable(files):
    folder = files(my=method("open('no-such-weights')", "1"))
    with pytest.raises(PruningError, match="does not import: FileNotFoundError"):
        solved(folder)


def test_two_files_with_equal_contents_are_two_methods(files):
    folder = files(my=method(value="1"), other=method(value="1"))
    mine, other = (load_method(folder / f"{name}.py", "Mine") for name in ("my", "other"))
    assert mine != other
    assert load_method(folder / "." / "my.py", "Mine") == mine


def test_a_copy_of_a_shipped_method_hides_nothing(files, monkeypatch):
    shipped = get_method("fastv")
    source = Path(registry.__file__).parents[1] / "baselines" / "fastv.py"
    folder = files(my=source.read_text())
    own = load_method(folder / "my.py", "FastV")
    assert own != shipped
    assert get_method("fastv") == shipped
    assert type(get_method("fastv")).__module__ == "baselines.fastv"
    # nor does one that a module of the user's registers
    files(helper=source.read_text(), my=method("import helper", "1"))
    with pytest.raises(PruningError, match="a method named 'fastv' is registered already"):
        load_method(folder / "my.py", "Mine")
    assert get_method("fastv") == shipped
