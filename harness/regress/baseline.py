"""Baselines: records as a repository keeps them, small, and what they were made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.models.protocols import HF, protocol_of
from harness.records import file as records
from harness.records.cell import Cell
from harness.records.file import SUFFIX, Record
from harness.regress.exact import selection_digests
from harness.run.request import Match, Request

_ALIKE = (
    *("model", "device", "dtype", "attention", "limit", "repeats"),
    *("prompt_tokens", "new_tokens", "images", "most_minutes", "memory_gib"),
)
"""What a record's identity holds under the name that a request has for it."""
_OF_A_RUN = (*_ALIKE, "batch_size", "protocol")
_KEPT = ("stage", "layer", "segment")


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
    newest = list({_name(record): record for record in found}.values())
    written = {records.write(directory, _slim(record)) for record in newest}
    stale = set(directory.glob(f"*{SUFFIX}")) - written
    for path in stale:
        path.unlink()
    size = sum(path.stat().st_size for path in written) / 2**10
    return f"{directory} holds {len(written)} records, {size:.0f} KiB; {len(stale)} were removed"


def requests_of(found: Sequence[Record], output: Path) -> list[Request]:
    """What to ask for to measure these records again: one request a configuration.

    Raises BadInput where a method or a chat template is from a file that the records do not hold.
    """
    runs: dict[tuple, list[Record]] = {}
    for record in found:
        identity = record["identity"]
        if own := _of_own_files(record):
            raise BadInput(
                f"{own[0]} is a method of a file of its own, which cannot be run again from its "
                "record; give the directory of CURRENT records"
            )
        if "chat_template" in identity:
            raise BadInput(
                f"{record.get('cell', 'the efficiency run')} was asked with a chat template of a "
                "file, which its record does not hold; give the directory of CURRENT records"
            )
        runs.setdefault(tuple(identity.get(key) for key in _OF_A_RUN), []).append(record)
    return [_request(dict(zip(_OF_A_RUN, run, strict=True)), runs[run], output) for run in runs]


def _of_own_files(record: Record) -> list[str]:
    """Texts of the cells whose method is from a user's own file."""
    if "method_file" in record["identity"]:
        return [record["cell"]]
    cells = record["cells"] if record["kind"] == "efficiency" else [record]
    return [cell["cell"] for cell in cells if Cell.parse(cell["cell"]).method.file is not None]


def _request(run: Mapping[str, Any], found: Sequence[Record], output: Path) -> Request:
    timed = found[0]["kind"] == "efficiency"
    texts = found[0]["identity"]["cells"] if timed else [record["cell"] for record in found]
    cells = sorted({Cell.parse(text) for text in texts}, key=lambda cell: cell.order)
    pruned = [cell for cell in cells if cell.budget is not None]
    seed = min(cell.seed for cell in cells)
    return Request(
        **{option: run[option] for option in _ALIKE if run[option] is not None},
        methods=tuple(dict.fromkeys(cell.method for cell in pruned)),
        budgets=tuple(dict.fromkeys(cell.budget for cell in pruned if cell.budget is not None)),
        tasks=() if timed else tuple(dict.fromkeys(r["identity"]["task"] for r in found)),
        batch_sizes=(run["batch_size"],),
        controls=any(cell.seed != seed for cell in cells),
        accuracy=not timed,
        efficiency=timed,
        seed=seed,
        protocol=protocol_of(run["protocol"] or HF),
        output=output,
        fresh=True,
        match=Match.TOKENS if all(cell.matched is None for cell in cells) else Match.FLOPS,
    )


def _name(record: Record) -> tuple[str, ...]:
    return record["kind"], record.get("cell", ""), record["identity"].get("task", "")


def _slim(record: Record) -> Record:
    """Without first tokens, and with digests of what was selected: a tenth of the bytes."""
    if not record.get("samples"):
        return record
    return {**record, "samples": [_slim_sample(sample) for sample in record["samples"]]}


def _slim_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    digests = selection_digests(sample).values()
    selections = [
        {**{k: v for k, v in kept.items() if k in _KEPT}, "digest": digest}
        for kept, digest in zip(sample["selections"], digests, strict=True)
    ]
    return {**sample, "first_token": {}, "selections": selections}
