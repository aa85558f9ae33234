"""What stands in the paper's table, before it is written down: configurations, blocks, lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isnan, nan

from harness.analysis.emphasis import no_better
from harness.analysis.fidelity import Fidelity, fidelity_of
from harness.analysis.outcomes import Outcomes, relative
from harness.analysis.rows import Row, rows_of, unpruned_of
from harness.analysis.stats import task_means
from harness.analysis.task_scores import columns_of, in_one_unit
from harness.records.cell import Asked
from harness.records.identity import TOLD_APART_BY
from harness.records.record import AccuracyRecord
from harness.records.share import Share

AVERAGE, RELATIVE = "Average", "Relative"
RANDOM = "random"
_NOT_SAID = {
    "limit": "no limit",
    "samples_per_task": "not sampled",
    "sample": "",
    "protocol": "protocol hf",
    "budget_per": "budget per sample",
    "chat_template": "its own chat template",
}


@dataclass(frozen=True)
class Line:
    """A row of a block: what each of its numbers is of, and why others are missing."""

    row: Row
    values: Mapping[str, Outcomes]
    fidelity: Fidelity | None = None
    noise: bool = False
    missing: str = "not measured"


@dataclass(frozen=True)
class Block:
    """The methods at one budget, of tokens or of FLOPs, of one configuration."""

    model: str
    checkpoint: str
    heading: str
    lines: tuple[Line, ...]


def configuration_names(configurations: Sequence[Sequence[AccuracyRecord]]) -> list[str]:
    """The model of each; what else they differ in where a model has several configurations."""
    identities = [records[0].identity for records in configurations]
    names = []
    for identity in identities:
        same = [other for other in identities if other.model == identity.model]
        differing = [
            _setting(key, getattr(identity, key))
            for key in TOLD_APART_BY
            if len({getattr(other, key) for other in same}) > 1
        ]
        if len(same) > 1 and not differing:
            differing = [f"code {identity.code_digest[:10]}"]
        names.append(", ".join(filter(None, [identity.model, *differing])))
    return names


def _setting(key: str, value: object) -> str:
    if value is None:
        return _NOT_SAID[key]
    return f"{key.removesuffix('_digest').replace('_', ' ')} {str(value)[:10]}"


def blocks_of(records: Sequence[AccuracyRecord], model: str, fidelity: bool) -> list[Block]:
    """Unpruned first, then a block a budget from large to small."""
    rows = rows_of(records)
    upper = unpruned_of(rows)
    one_unit = in_one_unit(columns_of(records))
    close = fidelity_of(records) if fidelity and upper else {}
    blocks = []
    for _, group in groupby(rows, lambda row: row.asked.amount):
        alike = list(group)
        noise = _within_noise(alike)
        lines = tuple(
            Line(
                row,
                _values(row, upper, one_unit),
                close.get(row.asked),
                i in noise,
                row.note if row.note and (row.failed or not row.outcomes) else "not measured",
            )
            for i, row in enumerate(alike)
        )
        heading = " · ".join(part for part in (model, _heading(alike[0].asked, upper)) if part)
        blocks.append(Block(model, records[0].identity.model, heading, lines))
    return blocks


def _heading(asked: Asked, upper: Row | None) -> str:
    whole = upper.tokens if upper else nan
    if asked.budget is None:
        return "Upper bound" + ("" if isnan(whole) else f": {whole:.0f} tokens (100 %)")
    if asked.in_flops:
        return f"The FLOPs of {asked.budget} tokens"
    if isinstance(asked.budget, Share):
        return f"Retain {asked.tokens_label}"
    share = "" if isnan(whole) else f" (↓ {100 * (1 - asked.budget / whole):.1f} %)"
    return f"Retain {asked.budget} tokens{share}"


def _values(row: Row, upper: Row | None, one_unit: bool) -> dict[str, Outcomes]:
    """What each number of a row is the mean of, by column."""
    shown = {**row.outcomes, **row.others}
    values: dict[str, Outcomes] = {name: {name: scores} for name, scores in shown.items()}
    if row.complete:
        if one_unit:
            values[AVERAGE] = row.outcomes
        values[RELATIVE] = relative(row.outcomes, task_means(upper.outcomes) if upper else {})
    return values


def _within_noise(rows: Sequence[Row]) -> set[int]:
    control = next((row for row in rows if row.asked.method == RANDOM and row.complete), None)
    tested = [i for i, row in enumerate(rows) if row.complete and row is not control]
    if control is None or control.asked.budget is None:
        return set()
    return {tested[k] for k in no_better([rows[i].outcomes for i in tested], control.outcomes)}
