"""What is wrong with a record that was read: by the forms of its types, and by what must agree.

All that tables, pages and the gate rely on is looked at once, when a record is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from reprlib import repr as short

from harness.errors import BadInput
from harness.records.bodies import (
    SHAPE,
    AccuracyOutline,
    AnsweredBody,
    DetailsBody,
    MetricBody,
)
from harness.records.cell import Cell
from harness.records.form import LIST, MAPPING, MOST, NUMBER, SECONDS, Values, form_of, misfit
from harness.records.timed_bodies import (
    EfficiencyOutline,
    GpuBody,
    MeasuredBody,
    RatedCell,
    RatedRun,
)

DEEPEST = 12

ACCURACY, ANSWERED, METRIC = map(form_of, (AccuracyOutline, AnsweredBody, MetricBody))
DETAILS, GPU = map(form_of, (DetailsBody, GpuBody))
EFFICIENCY, TIMED = map(form_of, (EfficiencyOutline, MeasuredBody))
RATED, TIMED_WITH_RATES = map(form_of, (RatedRun, RatedCell))


def fault(record: Values, whole: bool) -> str | None:
    """What is wrong with a record of this schema in one clause, or None.

    `whole`: its samples have their details. Values that no form speaks of are plain and finite.
    """
    check = _accuracy_faults if record["kind"] == "accuracy" else _efficiency_faults
    return next(filter(None, check(record, whole)), None)


def _accuracy_faults(record: Values, whole: bool) -> Iterator[str | None]:
    yield misfit([record], ACCURACY)
    yield _free_fault({k: v for k, v in record.items() if k not in ("samples", "ledger")})
    identity = record["identity"]
    yield _cell_fault(record, identity["budget"], identity.get("matched"), identity["seed"])
    if record["status"] != "ok" and "samples" not in record:
        return
    yield misfit([record], ANSWERED)
    yield _ledger_fault(record["ledger"], record["shape"])
    samples, rows = record["samples"], record["ledger"]
    if max(sample["ledger"] for sample in samples) >= len(rows):
        yield f"a sample names a row of the ledger beyond its {len(rows)}"
    if sum(row["samples"] for row in rows) != len(samples):
        yield f"its ledger is not of its {len(samples)} samples"
    yield _images_fault(record)
    if record["status"] == "ok":
        yield from _score_faults(record)
    if whole:
        yield misfit(samples, DETAILS, "samples")
        yield from (_selection_fault(kept) for sample in samples for kept in sample["selections"])
        yield from (_grid_fault(grid) for sample in samples for grid in sample.get("grids", ()))
        yield from (_first_token_fault(sample["first_token"]) for sample in samples)


def _images_fault(record: Values) -> str | None:
    """A budget is that of each of several images only where they were asked about."""
    per_image = record["identity"].get("budget_per") is not None
    rows = [row.get("images", 1) for row in record["ledger"]]
    for sample in record["samples"]:
        shown = 1 if "/" in sample["image"] else sample["image"].count("+") + 1
        if rows[sample["ledger"]] != (shown if per_image else 1):
            return f"its ledger has other numbers of images than {short(sample['item'])}"
    return None


def _score_faults(record: Values) -> Iterator[str | None]:
    """Questions have scores of their own where the task's is said to be made of them."""
    metrics = record.get("metrics")
    of_questions = True
    if metrics is not None:
        yield misfit([metrics], MAPPING, "metrics")
        yield misfit(list(metrics.values()), METRIC, "metrics")
        if record.get("metric") not in metrics:
            yield "its metric is not among its metrics"
        lists = [found["without"] for found in metrics.values() if found["without"] is not None]
        yield misfit([value for values in lists for value in values], NUMBER, "metrics without")
        if [] in lists:
            yield "its metrics without is an empty list"
        of_questions = metrics[record["metric"]]["per_question"] is not None
    if of_questions:
        yield misfit([sample["score"] for sample in record["samples"]], NUMBER, "samples score")


def _efficiency_faults(record: Values, whole: bool) -> Iterator[str | None]:
    yield misfit([record], EFFICIENCY)
    yield _free_fault(record)
    yield misfit([record["provenance"].get("gpu_before") or {}], GPU, "gpu_before")
    cells = record["cells"]
    yield from (_cell_fault(c, c["budget"], c.get("matched"), None) for c in cells)
    names = [cell["cell"] for cell in cells]
    if names != record["identity"]["cells"] or len(set(names)) < len(names):
        yield "its cells are not those of its identity"
    if len(record["identity"].get("cell_identities", names)) != len(names):
        yield "its cell_identities are not of its cells"
    done = [cell for cell in cells if cell["status"] == "ok"]
    yield misfit(done, TIMED, "cells")
    if done:
        yield misfit([record["shape"]], SHAPE, "shape") if "shape" in record else "it lacks shape"
        yield from (_ledger_fault(cell["ledger"], record["shape"]) for cell in done)
    if "rates" in record:
        yield misfit([record], RATED)
        if not {"images", "frames"} & record["identity"].keys():
            yield "its identity has neither images nor frames"
        yield misfit(done, TIMED_WITH_RATES, "cells")
    yield from _rounds_faults(record, done)


def _free_fault(value: object, depth: int = 0) -> str | None:
    """Numbers that JSON has not, or that no float holds; nesting that no writer would bear."""
    if isinstance(value, int | float) and not abs(value) <= MOST:
        return f"it holds the number {short(value)}"
    if depth > DEEPEST:
        return "it is nested too deep"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, (_free_fault(each, depth + 1) for each in inner)), None)


def _cell_fault(
    cell: Values, budget: int | str | None, matched: int | None, seed: int | None
) -> str | None:
    """A cell's text names its budget and seed, too; an efficiency record's has no seed."""
    try:
        named = Cell.parse(cell["cell"])
    except BadInput as error:
        return str(error)
    if (named.budget_body, named.matched) != (budget, matched) or seed not in (None, named.seed):
        return f"its cell {short(cell['cell'])} is of another budget or seed"
    return None


def _ledger_fault(ledger: Sequence[Values], shape: Values) -> str | None:
    names = ("entering", "cached", "planned", "mlp")
    columns = [row[name] for row in ledger for name in names if name in row]
    if any(len(column) != shape["layers"] for column in columns):
        return f"its ledger is not of {shape['layers']} layers"
    return None


def _grid_fault(grid: Values) -> str | None:
    """Crops are five numbers: how many, the side of each, and where the first token lies."""
    if "crops" in grid and (len(grid["crops"]) != 5 or min(grid["crops"][:3]) < 1):
        return "a grid's crops are not rows, columns, side, top and left"
    return None


def _selection_fault(kept: Values) -> str | None:
    """Either a digest, as in baselines, or the rows that were kept and their groups."""
    if "digest" in kept:
        return None
    if not {"rows", "kept"} <= kept.keys():
        return "a selection lacks what it kept"
    rows, groups = kept["rows"], kept.get("groups")
    if groups is not None and (len(groups) != rows or max(groups) >= rows):
        return f"a selection's groups are not of {rows} rows"
    try:
        mask = int.from_bytes(bytes.fromhex(kept["kept"]), "little")
    except ValueError:
        return "a selection's mask is not hexadecimal"
    fits = len(kept["kept"]) == 2 * -(-rows // 8) and mask.bit_length() <= rows
    return None if fits else f"a selection's mask is not of {rows} rows"


def _first_token_fault(token: Values) -> str | None:
    same = len(token.get("ids", ())) == len(token.get("logprobs", ()))
    return None if same else "a first token has not as many ids as log-probabilities"


def _rounds_faults(record: Values, done: Sequence[Values]) -> Iterator[str | None]:
    """What is compared round by round has as many rounds."""
    columns = [column for cell in done for column in cell["raw_seconds"].values()]
    yield misfit(columns, LIST, "raw_seconds")
    yield from (
        misfit([entry for entry in column if not isinstance(entry, list)], SECONDS, "raw_seconds")
        for column in columns
    )
    plain = [run for run in record.get("equal_context", ()) if run["status"] == "ok"]
    lengths = {len(column) for column in columns} | {len(run["decode"]) for run in plain}
    if len(lengths) > 1:
        yield "its cells differ in their numbers of rounds"
    rates = [cell["saturation"].get("saturated") for cell in done if "saturation" in cell]
    if len({len(found["seconds"]) for found in rates if found}) > 1:
        yield "its cells differ in their numbers of rounds at saturation"
    if len(record.get("stock_seconds", ())) > max(lengths, default=0):
        yield "it has more rounds without hooks than with them"
    if len({run["rows"] for run in plain}) < len(plain):
        yield "it has two runs at one equal context"
