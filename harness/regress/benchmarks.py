"""pytest-benchmark's JSON: each benchmark as a ratio to the reference kernel of the same run.

A baseline keeps the same form with fewer timings: medians of consecutive ones.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import BadInput
from harness.records.file import write_atomically
from harness.records.form import MAPPING, TEXT, TEXT_OR_NONE, TOOK, misfit
from harness.regress.findings import Finding, Kind, not_comparable
from harness.regress.ratio import ratio_finding

REFERENCE = "reference"
"""The group of the one benchmark that all others are measured by."""
BLOCKS = 40
"""Successive timings are alike; medians of so many blocks of them are nearly independent."""

Run = Mapping[str, Any]


FORM = {
    "machine_info?": {"cpu?": MAPPING},
    "commit_info?": MAPPING,
    "benchmarks": [{"name": TEXT, "group": TEXT_OR_NONE, "stats": {"data": [TOOK]}}],
}


def is_benchmarks(path: Path) -> bool:
    """Whether `path` names a file of benchmarks, not a directory of records."""
    return path.name.endswith((".json", ".json.gz"))


def read_benchmarks(path: Path) -> dict[str, Any]:
    """The file, plain or gzipped. Raises BadInput."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise BadInput(f"{path} is no regular file")
    try:
        content = path.read_bytes()
        plain = gzip.decompress(content) if path.name.endswith(".gz") else content
        run = json.loads(plain)
        if misfit([run], FORM):
            raise ValueError
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}") from None
    except (OSError, EOFError, ValueError, RecursionError):
        raise BadInput(
            f"{path} is torn or not what `pytest tests/benchmarks --benchmark-json FILE` writes"
        ) from None
    groups = [benchmark["group"] for benchmark in run["benchmarks"]]
    if groups.count(REFERENCE) != 1 or not all(b["stats"]["data"] for b in run["benchmarks"]):
        raise BadInput(f"{path} needs timings and one benchmark of the group {REFERENCE!r}")
    return run


def benchmark_findings(before: Run, after: Run, max_slowdown: float) -> list[Finding]:
    """One finding a benchmark, by name; none for the reference itself."""
    theirs, ours = _timings(before), _timings(after)
    processors = [_processor(run) for run in (before, after)]
    other = "" if processors[0] == processors[1] else f"cpu {processors[0]} → {processors[1]}"
    references = [_reference(run) for run in (after, before)]
    found = []
    for name in sorted({*theirs, *ours}):
        side = "baseline" if name not in ours else "current" if name not in theirs else ""
        why = f"only in the {side}" if side else other
        if why:
            found.append(not_comparable(name, "time ×", Kind.RATIO, why))
        else:
            sides = ((ours[name], references[0]), (theirs[name], references[1]))
            found.append(ratio_finding(name, "time ×", *sides, max_slowdown))
    return found


def made_dirty(run: Run) -> bool | None:
    """Whether no commit holds what was measured; None where that is not told."""
    dirty: bool | None = run.get("commit_info", {}).get("dirty")
    return dirty


def write_benchmarks(path: Path, run: Run) -> None:
    """The run as a baseline, gzipped; equal runs give equal bytes. Raises OSError."""
    kept = {
        **{key: run[key] for key in ("datetime", "version") if key in run},
        "machine_info": {"cpu": {"brand_raw": _processor(run)}},
        "commit_info": {k: run.get("commit_info", {}).get(k) for k in ("id", "dirty")},
        "benchmarks": [
            {**{k: b[k] for k in ("group", "name")}, "stats": {"data": _blocks(b).tolist()}}
            for b in run["benchmarks"]
        ],
    }
    write_atomically(path, gzip.compress(json.dumps(kept).encode(), mtime=0))


def _processor(run: Run) -> Any:
    return run.get("machine_info", {}).get("cpu", {}).get("brand_raw")


def _timings(run: Run) -> dict[str, NDArray[np.float64]]:
    return {b["name"]: _blocks(b) for b in run["benchmarks"] if b["group"] != REFERENCE}


def _reference(run: Run) -> NDArray[np.float64]:
    return next(_blocks(b) for b in run["benchmarks"] if b["group"] == REFERENCE)


def _blocks(benchmark: Mapping[str, Any]) -> NDArray[np.float64]:
    """Seconds, float64 [at most BLOCKS]."""
    data: Sequence[float] = benchmark["stats"]["data"]
    parts = np.array_split(np.asarray(data, dtype=np.float64), min(BLOCKS, len(data)))
    return np.asarray([np.median(part) for part in parts])
