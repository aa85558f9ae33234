"""`harness rescore`: scores for answers that were given before, by the tasks as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.accuracy.lmms.tasks import TaskLibrary
from harness.errors import BadInput, ScoringError, sentence, warn
from harness.records.file import file_name, read, read_all
from harness.records.groups import answers_of
from harness.records.record import AccuracyRecord
from harness.records.store import Store, opened


def rescore(directory: Path) -> int:
    """Score what could not be scored, and what an older version of its task scored; no model.

    Exit status: 0, 1 where scoring failed again. Raises BadInput.
    """
    if not directory.is_dir():
        raise BadInput(f"there is no directory {directory}")
    with opened(directory, warn) as store:
        records = [r for r in answers_of(read_all([directory], warn)) if len(r.samples)]
        if not records:
            raise BadInput(f"no record in {directory} holds answers")
        library = TaskLibrary(list(dict.fromkeys(record.task for record in records)))
        made = list(_rescored(records, library, store))
    warn(f"{len(made)} of {len(records)} records of answers were scored anew")
    return int(any(record.status == "failed" for record in made))


def _rescored(
    records: list[AccuracyRecord], library: TaskLibrary, store: Store
) -> Iterator[AccuracyRecord]:
    from harness.accuracy.lmms.evaluation import scored_again

    for record in records:
        version = library.version(record.task)
        if not record.is_unscored and record.identity.task_version == version:
            continue
        path = store.directory / file_name(record.body)
        (whole,) = answers_of([read(path)])
        try:
            task = library.load(record.task)
            scores = scored_again(record.task, task, whole.body)
            changes = {**scores, "status": "ok", "reason": None}
        except ScoringError as error:
            changes = {"status": "failed", "reason": sentence(error)}
            warn(f"{record.cell.text} {record.task}: {sentence(error)}")
        made = whole.rescored(version, changes)
        yield from answers_of([store.keep(made)])
        if record.is_unscored and file_name(made) != path.name:
            path.unlink()
