"""`harness rescore`: scores for answers that were given before, by the tasks as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.accuracy.lmms.tasks import TaskLibrary
from harness.errors import BadInput, ScoringError, sentence, warn
from harness.records.file import Record, file_name, read, read_all
from harness.records.provenance import now
from harness.records.store import Store, is_answered, opened


def rescore(directory: Path) -> int:
    """Score what could not be scored, and what an older version of its task scored; no model.

    Exit status: 0, 1 where scoring failed again. Raises BadInput.
    """
    if not directory.is_dir():
        raise BadInput(f"there is no directory {directory}")
    with opened(directory, warn) as store:
        records = [record for record in read_all([directory], warn) if "samples" in record]
        if not records:
            raise BadInput(f"no record in {directory} holds answers")
        library = TaskLibrary(list(dict.fromkeys(r["identity"]["task"] for r in records)))
        made = list(_rescored(records, library, store))
    warn(f"{len(made)} of {len(records)} records of answers were scored anew")
    return int(any(record["status"] == "failed" for record in made))


def _rescored(records: list[Record], library: TaskLibrary, store: Store) -> Iterator[Record]:
    from harness.accuracy.lmms.evaluation import scored_again

    for outline in records:
        task = outline["identity"]["task"]
        version = library.version(task)
        if not is_answered(outline) and outline["identity"]["task_version"] == version:
            continue
        path = store.directory / file_name(outline)
        record = read(path)
        identity = {**record["identity"], "task_version": version}
        try:
            scores = scored_again(task, library.load(task), record, identity["limit"])
            made = {**record, **scores, "status": "ok", "reason": None}
        except ScoringError as error:
            made = {**record, "status": "failed", "reason": sentence(error)}
            warn(f"{record['cell']} {task}: {made['reason']}")
        made |= {"identity": identity, "provenance": {**record["provenance"], "rescored": now()}}
        yield store.keep(made)
        if is_answered(record) and file_name(made) != path.name:
            path.unlink()
