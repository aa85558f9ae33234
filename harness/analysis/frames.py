"""Records as pandas frames, for notebooks; the tables are computed from the same records.

from harness import load
frame = load("results/first")
frame.groupby(["label", "budget", "task"], dropna=False)["score"].mean().unstack()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.fidelity import compared, unpruned_answers
from harness.records.groups import configurations, read_records
from harness.records.identity import PLACED, Identity
from harness.records.phases import PHASES
from harness.records.record import AccuracyRecord, EfficiencyRecord
from harness.records.result import Result

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = {"budget": "Int64", "matched": "Int64"}
"""Columns of whole numbers, some of which are missing."""


def load(*directories: str | Path) -> pd.DataFrame:
    """One row an answered question, of all accuracy records that succeeded.

    Columns: `model`, `model_digest`, `dtype`, `attention`, `device`, `batch_size`, `protocol`,
    `chat_template` (its digest, None for the checkpoint's own); `cell`, `method`, `label`,
    `venue`, `budget` (Int64, missing for unpruned), `matched` (Int64: the tokens at which the
    method costs the FLOPs of `budget` tokens, missing where the budget is one of tokens), `seed`;
    `task`, `task_version`, `item`, `image`, `answer`, `target`, `score` (as the task gives it,
    mostly 0 to 1), `counted_tokens` (mean over layers); each of `analysis.metrics.METRICS` (`same`,
    `to_wrong`, `to_right`, `kl`: of a pruned answer against unpruned's, missing where there is
    none); `commit`, `dirty`. Of duplicates and of several versions of a task the newest are left,
    as in the tables.

    Raises BadInput for a directory that is not there or holds no records.
    """
    import pandas as pd

    groups, _ = configurations(read_records(map(Path, directories), whole=True))
    rows: list[dict[str, Any]] = []
    for records in groups:
        upper = unpruned_answers(records)
        for record in (record for record in records if record.is_ok):
            theirs = {} if record.cell.is_unpruned else upper
            rows += _questions(record, compared(record, theirs))
    frame = pd.DataFrame(rows)
    return frame.astype(_WHOLE) if rows else frame


def load_timings(*directories: str | Path) -> pd.DataFrame:
    """One row a round of a cell, of all efficiency records: the phases' seconds, as measured.

    Columns: as `load` up to `matched`, then `round`, `vision_tower_seconds`, `projector_seconds`,
    `selection_seconds`, `prefill_seconds`, `decode_seconds` (a token's, median over the round's),
    `end_to_end_seconds`, `peak_bytes`, `kv_cache_bytes`. Raises BadInput as `load` does.
    """
    import pandas as pd

    _, runs = configurations(read_records(map(Path, directories)))
    rows = [row for record in runs for row in rounds(record)]
    frame = pd.DataFrame(rows)
    return frame.astype(_WHOLE) if rows else frame


def _questions(
    record: AccuracyRecord, close: Mapping[str, Sequence[float | None]]
) -> Iterator[dict[str, Any]]:
    """`close`: to unpruned's answers, by metric."""
    identity, samples = record.identity, record.samples
    shared = {
        **_head(identity, record),
        "seed": identity.seed,
        "task": identity.task,
        "task_version": identity.task_version,
    }
    origin = {"commit": record.provenance.commit, "dirty": record.provenance.dirty}
    tokens = [row.mean_entering for row in record.ledger]
    columns = {
        "item": samples.items,
        "image": samples.images,
        "answer": samples.answers,
        "target": samples.targets,
        "score": samples.scores,
        "counted_tokens": [tokens[row] for row in samples.rows],
        **{name: [nan if v is None else v for v in values] for name, values in close.items()},
    }
    for values in zip(*columns.values(), strict=True):
        yield {**shared, **dict(zip(columns, values, strict=True)), **origin}


def rounds(record: EfficiencyRecord) -> Iterator[dict[str, Any]]:
    """A row of `load_timings` for each round of each cell of an efficiency record."""
    shown = [phase.name for phase in PHASES if not phase.within]
    for cell in record.cells:
        if not cell.is_ok:
            continue
        held = {"peak_bytes": cell.peak_bytes, "kv_cache_bytes": cell.kv_cache_bytes}
        phases = {phase: cell.rounds(phase) for phase in cell.phases if phase in shown}
        for number, values in enumerate(zip(*phases.values(), strict=True)):
            names = (f"{phase}_seconds" for phase in phases)
            seconds = dict(zip(names, values, strict=True))
            yield {**_head(record.identity, cell), "round": number, **seconds, **held}


def _head(identity: Identity, result: Result) -> dict[str, Any]:
    cell = result.cell
    return {
        **dict(zip(PLACED, identity.values(PLACED), strict=True)),
        "protocol": identity.protocol or "hf",
        "chat_template": identity.chat_template,
        "cell": cell.text,
        "method": result.method.name,
        "label": result.method.label,
        "venue": result.method.venue,
        "budget": cell.budget_body,
        "matched": cell.matched,
    }
