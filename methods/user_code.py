"""Modules made of a user's own files: one for each version of a file and of what it imports.

What a method does may also be decided by a module beside it. Modules of the interpreter, of
installed packages and of this project are known by version and are left out; every other one that
the file imports, at once or within a function, is digested with it and imported anew with it.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType

PREFIX = "user_method_"
_PROJECT = Path(__file__).resolve().parent.parent
_KNOWN = (
    *(_PROJECT / package for package in ("methods", "baselines", "harness")),
    *(Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")),
)


@dataclass(frozen=True)
class _Version:
    """A module's name, its digest, and those of the files that it is made of."""

    name: str
    digest: str
    files: Mapping[Path, str]


_VERSIONS: dict[Path, list[_Version]] = {}
_imported: set[str] = set()  # of the user's, while a user's file was imported


def version(file: Path, digest: str) -> ModuleType | None:
    """The module of that version of the file, or of the present one for an empty digest.

    None where it has to be imported first. An earlier version that is the present one again is
    imported anew, since what it imports within functions is what was imported last.
    """
    versions = _VERSIONS.get(file.resolve(), [])
    if digest:
        wanted = [v for v in versions if v.digest == digest]
    else:
        wanted = [v for v in versions[-1:] if _is_present(v)]
    return sys.modules[wanted[-1].name] if wanted else None


def digest_of(module: ModuleType) -> str:
    """Hex SHA-256 of the file, as it was imported, and of the user's modules that it imports."""
    return next(v.digest for of in _VERSIONS.values() for v in of if v.name == module.__name__)


def new_name() -> str:
    """For the module of a version that is not known yet."""
    return f"{PREFIX}{sum(map(len, _VERSIONS.values()))}"


@contextmanager
def importing(file: Path, name: str) -> Iterator[None]:
    """While the file runs as module `name`: what it imports of the user's is imported anew."""
    file = file.resolve()
    for stale in {*_imported, *_needed(file)}:
        sys.modules.pop(stale, None)
    importlib.invalidate_caches()
    before, without_bytecode = set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # an edit within a second could not be told from it
    try:
        yield
    finally:
        sys.dont_write_bytecode = without_bytecode
        new = {n for n in set(sys.modules) - before if n != name and _users_file(n)}
        _imported.update(new)
    files = {path: _digest(path) for path in [file, *_needed(file, new).values()]}
    _VERSIONS.setdefault(file, []).append(_Version(name, _over(file, files), files))


def _is_present(version: _Version) -> bool:
    try:
        return all(_digest(path) == digest for path, digest in version.files.items())
    except OSError:  # gone, or no longer to be read
        return False


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _over(file: Path, files: Mapping[Path, str]) -> str:
    """The file's own digest where it is alone."""
    if len(files) == 1:
        return files[file]
    named = sorted(f"{os.path.relpath(path, file.parent)} {files[path]}" for path in files)
    return sha256("\n".join(named).encode()).hexdigest()


def _needed(file: Path, others: Iterable[str] = ()) -> dict[str, Path]:
    """The `others`, and the user's modules that these and the file import, at once or later."""
    found: dict[str, Path] = {}
    waiting = [*others, *_imports(file, "")]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _users_file(name)
        if path is not None:
            found[name] = path
            waiting += _imports(path, name)
    return found


def _users_file(name: str) -> Path | None:
    """The file of a module that is neither the interpreter's, nor installed, nor the project's."""
    path = _file(name)
    if path is None or {"site-packages", "dist-packages"} & set(path.parts):
        return None
    return None if any(path.is_relative_to(known) for known in _KNOWN) else path


def _file(name: str) -> Path | None:
    """Of a module that was imported, or that would be found; None where it has no file."""
    parent, _, leaf = name.rpartition(".")
    if name in sys.modules:
        path = getattr(sys.modules[name], "__file__", None)
        return Path(path).resolve() if isinstance(path, str) else None
    if not parent:
        spec = find_spec(name) if name else None
        return Path(spec.origin).resolve() if spec and spec.has_location and spec.origin else None
    package = _file(parent)
    if package is None or package.name != "__init__.py":
        return None
    places = (package.with_name(f"{leaf}.py"), package.parent / leaf / "__init__.py")
    return next((place for place in places if place.is_file()), None)


def _imports(path: Path, name: str) -> set[str]:
    """Every module that the file names in an import, and the packages that it lies in."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # compiled, or not imported yet
        return set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = {module for node in ast.walk(tree) for module in _named(node, package)}
    return found | {".".join(m.split(".")[:n]) for m in found for n in range(1, m.count(".") + 1)}


def _named(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = node.module or ""
    if node.level:
        try:
            module = resolve_name("." * node.level + module, package)
        except ImportError:
            return []
    return [module, *(f"{module}.{alias.name}" for alias in node.names)]
