"""Where a record comes from: code, versions, machine."""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("methods", "baselines", "harness")
_LIBRARIES = ("torch", "transformers", "lmms_eval", "numpy")
_MEASURING = (
    *("methods", "baselines", "harness/models", "harness/accuracy", "harness/efficiency"),
    *("harness/embedded", "harness/records/cell.py", "harness/records/counted.py"),
    *("harness/records/grids.py", "harness/records/ledger.py", "harness/records/phases.py"),
    *("harness/records/selections.py", "harness/records/task_metrics.py"),
)
"""What decides a measurement: other rooms only plan it or read records."""
_NOT_MEASURING = "harness/embedded/training"


def versions() -> dict[str, str]:
    """Versions of what decides the numbers; "none" for a library that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def code_digest(root: Path = ROOT) -> str:
    """Hex SHA-256 over the sources that decide a measurement."""
    total = hashlib.sha256()
    for path in _sources(root):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(path.read_bytes() + b"\0")
    return total.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    training = root / _NOT_MEASURING
    for name in _MEASURING:
        found = [root / name] if name.endswith(".py") else sorted((root / name).rglob("*.py"))
        yield from (path for path in found if not path.is_relative_to(training))


def provenance(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of its origin; `machine` is what the model runs on, with "device_name"
    (None for a CPU) and "threads".
    """
    commit, dirty = commit_of(ROOT)
    return {
        "commit": commit,
        "dirty": dirty,
        "created": now(),
        "command": command(sys.argv),
        **machine,
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        if machine["device_name"]
        else None,
        "cpu": _cpu(),
        "platform": platform.platform(),
    }


def command(arguments: Sequence[str]) -> str:
    """The command line; `python -m harness` is written as `harness`, which does the same."""
    program = Path(arguments[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *arguments[1:]])


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def commit_of(root: Path) -> tuple[str | None, bool | None]:
    """The commit that the code at `root` is of, and whether files of the packages differ from it.

    None for code outside a repository of its own, such as an installed package.
    """
    tracked = _output("git", "-C", str(root), "ls-files", "--", "methods/interface.py")
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    if not tracked or not commit:
        return None, None
    return commit, bool(_output("git", "-C", str(root), "status", "--porcelain", "--", *_PACKAGES))


def _output(*command: str) -> str | None:
    """Standard output of a command, or None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
