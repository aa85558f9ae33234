"""Baselines: records as a repository keeps them, small, and what they were made with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.models.protocols import HF, protocol_of
from harness.records import file as records
from harness.records.cell import Cell
from harness.records.file import SUFFIX
from harness.records.groups import answers_of
from harness.records.identity import AS_ASKED, OF_A_RUN
from harness.records.record import AccuracyRecord, Record
from harness.records.result import Result
from harness.records.slim import slim
from harness.run.request import Match, Request


def check_clean(dirty: bool | None) -> None:
    """Raises BadInput for what was measured on a tree that no commit holds."""
    if dirty:
        raise BadInput(
            "a baseline is made from a commit, but files of the packages were changed when this "
            "was measured; commit them, or give --allow-dirty"
        )


def write_baseline(directory: Path, found: Sequence[Record]) -> str:
    """Replace the directory's records by the newest of each cell; a line that says what was done.

    Raises OSError.
    """
    newest = {_name(record): record for record in found}.values()
    written = {records.write(directory, slim(record)) for record in newest}
    stale = set(directory.glob(f"*{SUFFIX}")) - written
    for path in stale:
        path.unlink()
    size = sum(path.stat().st_size for path in written) / 2**10
    return f"{directory} holds {len(written)} records, {size:.0f} KiB; {len(stale)} were removed"


def requests_of(found: Sequence[Record], output: Path) -> list[Request]:
    """What to ask for to measure these records again: one request a configuration, and one more
    where it has budgets of tokens and of FLOPs.

    Raises BadInput where a method or a chat template is from a file that the records do not hold.
    """
    runs: dict[tuple[Any, ...], list[Record]] = {}
    for record in found:
        if own := _of_own_files(record):
            raise BadInput(
                f"{own[0]} is a method of a file of its own, which cannot be run again from its "
                "record; give the directory of CURRENT records"
            )
        if record.identity.chat_template:
            asked = record.cell.text if isinstance(record, AccuracyRecord) else "the efficiency run"
            raise BadInput(
                f"{asked} was asked with a chat template of a file, which its record does not "
                "hold; give the directory of CURRENT records"
            )
        runs.setdefault(record.identity.values(OF_A_RUN), []).append(record)
    return [
        _request(held, cells, match, output)
        for held in runs.values()
        for match, cells in _by_match(held)
    ]


def _results(record: Record) -> Sequence[Result]:
    return [record] if isinstance(record, AccuracyRecord) else record.cells


def _of_own_files(record: Record) -> list[str]:
    """Texts of the cells whose method is from a user's own file."""
    cells = [result.cell for result in _results(record)]
    return [c.text for c in cells if record.identity.method_file or c.method.file is not None]


def _by_match(found: Sequence[Record]) -> Iterator[tuple[Match, list[Cell]]]:
    """Cells in the order of tables, those of either kind of budget with unpruned.

    Of a budget that cannot be met, records do not tell the kind.
    """
    results = {result.cell: result for record in found for result in _results(record)}
    met = [cell for cell, result in results.items() if result.status != "infeasible"]
    kinds = {cell.asked.in_flops for cell in met if not cell.is_unpruned} or {False}
    for match, in_flops in ((Match.TOKENS, False), (Match.FLOPS, True)):
        if in_flops in kinds:
            other = [c for c in met if not c.is_unpruned and c.asked.in_flops != in_flops]
            yield match, sorted(results.keys() - other, key=lambda cell: cell.order)


def _request(found: Sequence[Record], cells: Sequence[Cell], match: Match, output: Path) -> Request:
    identity = found[0].identity
    tasks = tuple(dict.fromkeys(record.task for record in answers_of(found)))
    pruned = [cell for cell in cells if cell.budget is not None]
    seed = min(cell.seed for cell in cells)
    return Request(
        **{option: value for option in AS_ASKED if (value := getattr(identity, option))},
        methods=tuple(dict.fromkeys(cell.method for cell in pruned)),
        budgets=tuple(dict.fromkeys(cell.budget for cell in pruned if cell.budget is not None)),
        tasks=tasks,
        batch_sizes=(identity.batch_size,),
        timed_frames=(identity.frames,) if identity.frames and not tasks else None,
        controls=any(cell.seed != seed for cell in cells),
        accuracy=bool(tasks),
        efficiency=not tasks,
        seed=seed,
        protocol=protocol_of(identity.protocol or HF),
        output=output,
        fresh=True,
        match=match,
    )


def _name(record: Record) -> tuple[object, ...]:
    if isinstance(record, AccuracyRecord):
        return record.kind, record.cell.asked, record.cell.seed, record.task
    return (record.kind,)
