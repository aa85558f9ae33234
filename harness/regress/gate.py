"""`harness regress`: read or measure both sides, compare, show, keep."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.analysis.told import told
from harness.errors import BadInput, warn
from harness.records.file import file_name, read
from harness.records.provenance import ROOT, commit_of
from harness.records.record import Record
from harness.regress import baseline
from harness.regress.benchmarks import (
    benchmark_findings,
    is_benchmarks,
    made_dirty,
    read_benchmarks,
    write_benchmarks,
)
from harness.regress.findings import Finding
from harness.regress.records import Limits, record_findings
from harness.regress.sources import IncomparableError, read_directory, version_differences
from harness.regress.table import NOTHING_COMPARABLE, as_json, exit_status, verdict_table
from harness.run.cells import INTERRUPTED
from harness.run.compare import compare
from harness.tables.brief import at_a_glance
from harness.tables.table import markdown
from harness.tables.terminal import show

HOW_TO_BENCHMARK = "pytest tests/benchmarks --benchmark-json FILE"


Side = TypeVar("Side")


class _Sides(Protocol[Side]):
    """What is compared: read or measured, held against each other, kept as a baseline."""

    def before(self) -> Side: ...
    def after(self, before: Side) -> Side: ...
    def findings(self, before: Side, after: Side) -> list[Finding]: ...
    def versions(self, before: Side, after: Side) -> list[str]: ...
    def update(self, after: Side) -> str: ...


@dataclass(frozen=True)
class Gate:
    """Options of `harness regress`; `output` is for records that are made on the spot."""

    against: Path
    current: Path | None
    limits: Limits
    output: Path
    update: bool = False
    allow_dirty: bool = False
    json: Path | None = None
    markdown: Path | None = None


def regress(gate: Gate) -> int:
    """Exit status: 0, 1 for a regression, 3 if nothing is comparable, 130 after Ctrl-C.

    Raises BadInput and PruningError.
    """
    for path in (gate.json, gate.markdown):
        if path is not None and not path.absolute().parent.is_dir():
            raise BadInput(f"{path} cannot be written: there is no directory {path.parent}")
    if is_benchmarks(gate.against):
        return _regress(gate, _Benchmarks(gate))
    return _regress(gate, _Records(gate))


def _regress(gate: Gate, sides: _Sides[Side]) -> int:
    before = sides.before()
    try:
        after = sides.after(before)
    except KeyboardInterrupt:
        warn("interrupted; the baseline is as it was")
        return INTERRUPTED
    try:
        findings = sides.findings(before, after)
    except IncomparableError as error:
        warn(str(error))
        if not gate.update:
            return NOTHING_COMPARABLE
        findings = []
    _tell(gate, findings, sides.versions(before, after))
    if gate.update:
        warn(sides.update(after))
        return 0
    return exit_status(findings)


@dataclass(frozen=True)
class _Records:
    """Two directories of records, or one and a new run of its configuration."""

    gate: Gate

    def before(self) -> list[Record]:
        gate = self.gate
        if gate.update and gate.current is not None and not gate.against.is_dir():
            return []
        try:
            return read_directory(gate.against)
        except BadInput as error:
            if gate.update and gate.current is not None:
                warn(f"{error}; it is replaced")
                return []
            renewing = f"harness regress --against {gate.against} CURRENT --update"
            raise BadInput(f"{error}; `{renewing}` makes a baseline of CURRENT records") from None

    def after(self, before: list[Record]) -> list[Record]:
        if self.gate.current is not None:
            return read_directory(self.gate.current)
        if self.gate.update and not self.gate.allow_dirty:
            baseline.check_clean(commit_of(ROOT)[1])
        found: list[Record] = []
        for request in baseline.requests_of(before, self.gate.output):
            outlines = compare(request, told)
            found += [read(request.output / file_name(record.body)) for record in outlines]
        return found

    def findings(self, before: list[Record], after: list[Record]) -> list[Finding]:
        return record_findings(before, after, self.gate.limits)

    def versions(self, before: list[Record], after: list[Record]) -> list[str]:
        return version_differences(before[-1], after[-1]) if before and after else []

    def update(self, after: list[Record]) -> str:
        if not self.gate.allow_dirty:
            baseline.check_clean(any(record.provenance.dirty for record in after))
        with _writing(self.gate.against):
            return baseline.write_baseline(self.gate.against, after)


@dataclass(frozen=True)
class _Benchmarks:
    """Two files of pytest-benchmark."""

    gate: Gate

    def before(self) -> dict[str, Any]:
        if self.gate.update and not self.gate.against.exists():
            return {}
        return read_benchmarks(self.gate.against)

    def after(self, before: dict[str, Any]) -> dict[str, Any]:
        if self.gate.current is None:
            raise BadInput(f"give the file of CURRENT benchmarks, from `{HOW_TO_BENCHMARK}`")
        return read_benchmarks(self.gate.current)

    def findings(self, before: dict[str, Any], after: dict[str, Any]) -> list[Finding]:
        return benchmark_findings(before, after, self.gate.limits.max_slowdown) if before else []

    def versions(self, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        return []

    def update(self, after: dict[str, Any]) -> str:
        if not self.gate.allow_dirty:
            baseline.check_clean(made_dirty(after))
        with _writing(self.gate.against):
            write_benchmarks(self.gate.against, after)
        return f"{self.gate.against} holds {len(after['benchmarks'])} benchmarks"


def _tell(gate: Gate, findings: Sequence[Finding], versions: Sequence[str]) -> None:
    """In the files that were asked for, and on standard output."""
    current = str(gate.current or "a new run")
    table = verdict_table(findings, [f"before: {gate.against} · after: {current}"], versions)
    text = as_json(
        findings, versions, baseline=str(gate.against), current=current, limits=asdict(gate.limits)
    )
    for path, content in ((gate.markdown, markdown(table)), (gate.json, text)):
        if path is not None:
            with _writing(path):
                path.write_text(content, encoding="utf-8")
    show(at_a_glance([table], sys.stdout), sys.stdout)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
