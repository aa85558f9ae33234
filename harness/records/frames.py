"""Records as pandas frames, for notebooks; the tables are computed from the same records.

from harness import load
frame = load("results/first")
frame.groupby(["label", "budget", "task"], dropna=False)["score"].mean().unstack()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput
from harness.records.file import Record, read, read_all, read_outline
from harness.records.groups import configurations, left_out

if TYPE_CHECKING:
    import pandas as pd

_CONFIGURATION = ("model", "model_digest", "dtype", "attention", "device", "batch_size")


def load(*directories: str | Path) -> pd.DataFrame:
    """One row an answered question, of all accuracy records that succeeded.

    Columns: `model`, `model_digest`, `dtype`, `attention`, `device`, `batch_size`, `protocol`,
    `chat_template` (its digest, None for the checkpoint's own); `cell`, `method`, `label`,
    `venue`, `budget` (Int64, missing for unpruned), `seed`; `task`, `task_version`, `item`,
    `image`, `answer`, `target`, `score` (as the task gives it, mostly 0 to 1), `counted_tokens`
    (mean over layers), `commit`, `dirty`. Of duplicates and of several versions of a task the
    newest are left, as in the tables.

    Raises BadInput for a directory that is not there or holds no records.
    """
    import pandas as pd

    groups, _ = configurations(read_records(map(Path, directories)))
    rows = [row for records in groups for record in records for row in _questions(record)]
    frame = pd.DataFrame(rows)
    return frame.astype({"budget": "Int64"}) if rows else frame


def load_timings(*directories: str | Path) -> pd.DataFrame:
    """One row a round of a cell, of all efficiency records: the phases' seconds, as measured.

    Columns: as `load` up to `budget`, then `round`, `vision_tower_seconds`, `projector_seconds`,
    `selection_seconds`, `prefill_seconds`, `decode_seconds` (a token's, median over the round's),
    `end_to_end_seconds`, `peak_bytes`, `kv_cache_bytes`. Raises BadInput as `load` does.
    """
    import pandas as pd

    _, runs = configurations(read_records(map(Path, directories)))
    rows = [row for record in runs for row in rounds(record)]
    frame = pd.DataFrame(rows)
    return frame.astype({"budget": "Int64"}) if rows else frame


def read_records(
    directories: Iterable[Path],
    warn: Callable[[str], None] = lambda line: None,
    whole: bool = False,
) -> list[Record]:
    """All records of the directories, outlines or `whole`. Raises BadInput if there are none.

    `warn` hears of files that cannot be read, and of a task's older versions.
    """
    wanted = list(directories)
    for directory in wanted:
        if not directory.is_dir():
            raise BadInput(f"there is no directory {directory}")
    records = list(read_all(wanted, warn, read if whole else read_outline))
    if not records:
        raise BadInput(f"no records in {', '.join(map(str, wanted))}")
    for line in left_out(records):
        warn(line)
    return records


def _questions(record: Record) -> Iterator[dict[str, Any]]:
    if record["status"] != "ok":
        return
    identity, ledger = record["identity"], record["ledger"]
    shared = {
        **_head(record, record),
        "seed": identity["seed"],
        "task": identity["task"],
        "task_version": identity["task_version"],
    }
    origin = {key: record["provenance"].get(key) for key in ("commit", "dirty")}
    tokens = [sum(row["entering"]) / len(row["entering"]) for row in ledger]
    for sample in record["samples"]:
        asked = {key: sample[key] for key in ("item", "image", "answer", "target", "score")}
        yield {**shared, **asked, "counted_tokens": tokens[sample["ledger"]], **origin}


def rounds(record: Record) -> Iterator[dict[str, Any]]:
    """A row of `load_timings` for each round of each cell of an efficiency record."""
    for cell in record["cells"]:
        if cell["status"] != "ok":
            continue
        held = {key: cell[key] for key in ("peak_bytes", "kv_cache_bytes")}
        # the seconds of single stages are in those of the selection
        phases = {p: raw for p, raw in cell["raw_seconds"].items() if p != "stages"}
        for number, values in enumerate(zip(*phases.values(), strict=True)):
            seconds = {
                f"{phase}_seconds": median(value) if isinstance(value, list) else value
                for phase, value in zip(phases, values, strict=True)
            }
            yield {**_head(record, cell), "round": number, **seconds, **held}


def _head(record: Record, cell: Mapping[str, Any]) -> dict[str, Any]:
    described = cell["method"]
    return {
        **{key: record["identity"].get(key) for key in _CONFIGURATION},
        "protocol": record["identity"].get("protocol", "hf"),
        "chat_template": record["identity"].get("chat_template"),
        "cell": cell["cell"],
        "method": described["name"],
        "label": described["label"],
        "venue": described.get("venue", ""),
        "budget": cell["budget"] if "budget" in cell else record["identity"]["budget"],
    }
