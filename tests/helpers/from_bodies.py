"""Readers of records for tests, which make the JSON of records by hand and look at it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from harness.analysis import fidelity
from harness.analysis import studies as of_studies
from harness.records import file, groups
from harness.records.ledger import Ledger, ledger_of
from harness.records.record import AccuracyRecord, EfficiencyRecord, Record, record_of
from harness.records.samples import first_token as token_of
from harness.records.selections import Selection
from harness.records.timed import Rates, TimedCell
from harness.regress import baseline
from harness.regress import records as of_regress
from harness.tables import layouts
from harness.tables.page import overlay
from harness.tables.page import page as whole_page
from harness.tables.page.gallery import gallery as items_of

Body = Mapping[str, Any]


def made(bodies: Iterable[Body | Record]) -> list[Any]:
    """Records of their JSON; records stay what they are."""
    kinds = (AccuracyRecord, EfficiencyRecord)
    return [body if isinstance(body, kinds) else record_of(body) for body in bodies]


def bodies_in(directory: Path, warn: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """The outlines of all records in a directory."""
    return [dict(record.body) for record in file.read_all([directory], warn)]


def _of_bodies(function: Callable[..., Any], sides: int = 1) -> Callable[..., Any]:
    """The function for bodies in place of records in its first arguments."""

    @wraps(function)
    def of(*arguments: Any, **options: Any) -> Any:
        records = [made(given) for given in arguments[:sides]]
        return function(*records, *arguments[sides:], **options)

    return of


tables, laid_out = _of_bodies(layouts.tables), _of_bodies(layouts.laid_out)
configurations, studies = _of_bodies(groups.configurations), _of_bodies(of_studies.studies)
record_findings = _of_bodies(of_regress.record_findings, sides=2)
requests_of = _of_bodies(baseline.requests_of)
fidelity_of = _of_bodies(fidelity.fidelity_of)
page, gallery = _of_bodies(whole_page), _of_bodies(items_of)


def patches(selections: Iterable[Body], count: int) -> Any:
    return overlay.patches([Selection.of(body) for body in selections], count)


def ledger(cell: Body) -> Ledger:
    return ledger_of(cell["ledger"])


def rates(per_second: Body) -> Rates:
    return Rates(per_second["flops_per_second"], per_second["bytes_per_second"])


def timed(cell: Body) -> TimedCell:
    """A cell of a run, in which nothing else was timed."""
    return TimedCell.of(dict(cell), "", None)


def divergence(whole: Body, pruned: Body) -> float | None:
    from harness.analysis import metrics

    return metrics.divergence(token_of(dict(whole)), token_of(dict(pruned)))
