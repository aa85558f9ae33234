"""Print what this environment holds in other versions than constraints.txt does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

UNLOCKED = {"pip", "visual-token-pruning"}
LOCK = Path(__file__).parent.parent / "constraints.txt"


def locked(lines: Iterable[str]) -> dict[str, str]:
    """Version by name of the constraints that hold on this Python and platform."""
    found = (Requirement(line) for line in lines if not line.startswith("#"))
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in found
        if one.marker is None or one.marker.evaluate()
    }


def installed() -> dict[str, str]:
    """Version by name; of two that are installed, the one that is imported."""
    found = {canonicalize_name(one.name): one.version for one in reversed([*distributions()])}
    return {name: version for name, version in found.items() if name not in UNLOCKED}


def changes(lock: Mapping[str, str], present: Mapping[str, str]) -> Iterator[str]:
    """A line for each package that is present in another version than the lock's or not in it."""
    for name, version in sorted(present.items()):
        if version != lock.get(name):
            yield f"- {name} {lock.get(name, '(not in the lock)')} → {version}"


if __name__ == "__main__":
    lines = list(changes(locked(LOCK.read_text().splitlines()), installed()))
    print(f"{len(lines)} packages are not those of {LOCK.name}", *lines, sep="\n")
