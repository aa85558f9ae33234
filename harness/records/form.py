"""The form of a record: all that tables, pages and the gate read of it and then rely on.

A form is a `Leaf`, `[form]` for a list, `(form,)` for one that is not empty, a mapping of forms by
key, or `...` for anything; a key with a question mark may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from reprlib import repr as short
from typing import Any

from harness.errors import BadInput
from harness.records.cell import Cell
from harness.records.cost import DTYPE_BYTES

MOST = 2**64
"""No number of a record is larger, so that products of several are floats still."""
MOST_COUNT, MOST_ROWS = 10**9, 10**6
DEEPEST = 12

Form = Any
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Leaf:
    """A value of one of these types that passes a test."""

    what: str
    types: tuple[type, ...]
    test: Callable[[Any], bool] = lambda value: True

    def holds(self, value: object) -> bool:
        return type(value) in self.types and self.test(value)


def number(what: str, low: float, high: float, *types: type) -> Leaf:
    """Within the bounds, as NaN is not; null where `types` has it."""
    return Leaf(what, types, lambda value: value is None or low <= value <= high)


def words(*allowed: str) -> Leaf:
    return Leaf(f"one of {', '.join(allowed)}", (str,), lambda value: value in allowed)


NONE = type(None)
TEXT, TEXT_OR_NONE = Leaf("text", (str,)), Leaf("text or null", (str, NONE))
MAPPING, LIST = Leaf("a mapping", (dict,)), Leaf("a list", (list,))
FULL_LIST = Leaf("a list that is not empty", (list,), bool)
_OUTER: dict[type, Leaf] = {dict: MAPPING, list: LIST, tuple: FULL_LIST}
INTEGER = number("a whole number", -MOST, MOST, int)
COUNT = number("a whole number from 0", 0, MOST_COUNT, int)
COUNT_OR_NONE = number("a whole number from 0 or null", 0, MOST_COUNT, int, NONE)
POSITIVE = number("a whole number from 1", 1, MOST_COUNT, int)
ROWS = number(f"a whole number from 1 to {MOST_ROWS}", 1, MOST_ROWS, int)
NUMBER = number("a number", -MOST, MOST, int, float)
NUMBER_OR_NONE = number("a number or null", -MOST, MOST, int, float, NONE)
AMOUNT = number("a number from 0", 0, MOST, int, float)
SECONDS = number("a number of seconds", 0, MOST_COUNT, int, float)
TOOK = number("a number of seconds above 0", 1e-12, 10**9, int, float)
RATE = number("a rate above 0", 1, MOST, int, float)
LOG_PROBABILITY = number("a log-probability or null", -MOST, 1, int, float, NONE)

SHAPE = {
    **dict.fromkeys(
        (
            *("layers", "hidden_size", "intermediate_size", "attention_heads", "key_value_heads"),
            *("head_dim", "vocabulary", "tower_layers", "tower_width", "tower_intermediate"),
            *("tower_rows", "patch_values", "projector_inner"),
        ),
        POSITIVE,
    ),
    "image_tokens": ROWS,
}
LEDGER = (
    {
        **dict.fromkeys(("entering", "cached", "planned"), (COUNT,)),
        **{"text": POSITIVE, "samples": POSITIVE, "selection_flops?": AMOUNT},
    },
)
METHOD = {"name": TEXT, "label": TEXT, "venue?": TEXT, "link?": TEXT}
CONFIGURATION = {
    **dict.fromkeys(("model", "model_digest", "attention", "device", "code_digest"), TEXT),
    **{"batch_size": POSITIVE, "dtype": words(*DTYPE_BYTES), "versions": MAPPING, "seed": INTEGER},
    **{"protocol?": TEXT, "chat_template?": TEXT},
}
GPU = {
    "problem?": TEXT,
    "processes?": COUNT,
    "slowdown_bits?": COUNT_OR_NONE,
    **dict.fromkeys(
        (
            *("utilisation_percent?", "temperature_celsius?"),
            *("sm_clock_mhz?", "most_sm_clock_mhz?"),
        ),
        NUMBER_OR_NONE,
    ),
}
CELL = {"cell": TEXT, "reason": TEXT_OR_NONE, "method": METHOD, "feasible?": [COUNT_OR_NONE]}

ACCURACY = {
    **CELL,
    "status": words("ok", "failed", "infeasible"),
    "identity": {
        **CONFIGURATION,
        **{"task": TEXT, "task_version": TEXT, "settings": MAPPING, "budget": COUNT_OR_NONE},
        **{"limit": COUNT_OR_NONE, "matched?": COUNT},
    },
    "provenance": MAPPING,
}
SAMPLE = {"item": TEXT, "image": TEXT, "answer": TEXT, "target": ..., "score": NUMBER_OR_NONE}
ANSWERED = {
    "parameters": MAPPING,
    "shape": SHAPE,
    "ledger": LEDGER,
    "samples": ({**SAMPLE, "ledger": COUNT},),
}
METRIC = {
    **{"value": NUMBER, "per_question": NUMBER_OR_NONE, "why": TEXT_OR_NONE},
    "without": Leaf("a list or null", (list, NONE)),
}
SELECTION = {
    **{"stage": TEXT, "layer": COUNT_OR_NONE, "segment?": COUNT_OR_NONE},
    **{"rows?": ROWS, "kept?": TEXT, "digest?": TEXT},
    "groups?": [number("a row or -1", -1, MOST_ROWS, int)],
}
DETAILS = {
    "first_token": {"ids?": [COUNT], "logprobs?": [LOG_PROBABILITY]},
    "selections": [SELECTION],
}

EFFICIENCY = {
    "cells": ({**CELL, "status": TEXT, "budget": COUNT_OR_NONE, "matched?": COUNT_OR_NONE},),
    "order": LIST,
    "identity": {**CONFIGURATION, "cells": [TEXT], "new_tokens": POSITIVE, "repeats": POSITIVE},
    "provenance": MAPPING,
    "equal_context?": [
        {"rows": COUNT, "status": TEXT, "reason": TEXT_OR_NONE, "decode": [(SECONDS,)]}
    ],
}
TIMED = {
    "parameters": MAPPING,
    "ledger": LEDGER,
    "raw_seconds": {
        **dict.fromkeys(("vision_tower", "projector", "selection"), (SECONDS,)),
        **{"prefill": (TOOK,), "end_to_end": (TOOK,), "decode": ((SECONDS,),)},
    },
    **{"peak_kind": words("device", "process"), "peak_bytes": AMOUNT, "kv_cache_bytes": AMOUNT},
    **{"prefill_peak_bytes?": NUMBER, "decode_peak_bytes?": NUMBER},
    "largest_batch?": {"batch": COUNT},
}
RATED = {
    "rates": {"flops_per_second": RATE, "bytes_per_second": RATE},
    "identity": {"images": POSITIVE, "prompt_tokens": POSITIVE},
    **{"weight_bytes": AMOUNT, "stock_seconds": [TOOK], "gpu_warm": GPU, "gpu_after": GPU},
}
TIMED_WITH_RATES = {
    "raw_seconds": {"between_tokens": ((SECONDS,),)},
    **{"merged_rows": COUNT, "attention": {"operators": [TEXT], "kernels": [TEXT]}},
    "counted_flops": {
        f"{phase}?": AMOUNT for phase in ("vision_tower", "projector", "selection", "prefill")
    },
}


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
    if record["status"] == "ok":
        yield from _score_faults(record)
    if whole:
        yield misfit(samples, DETAILS, "samples")
        yield from (_selection_fault(kept) for sample in samples for kept in sample["selections"])
        yield from (_first_token_fault(sample["first_token"]) for sample in samples)


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
    done = [cell for cell in cells if cell["status"] == "ok"]
    yield misfit(done, TIMED, "cells")
    if done:
        yield misfit([record["shape"]], SHAPE, "shape") if "shape" in record else "it lacks shape"
        yield from (_ledger_fault(cell["ledger"], record["shape"]) for cell in done)
    if "rates" in record:
        yield misfit([record], RATED)
        yield misfit(done, TIMED_WITH_RATES, "cells")
    yield from _rounds_faults(record, done)


def misfit(values: Sequence[Any], form: Form, name: str = "") -> str | None:
    """What is wrong with the first of these values that has not this form."""
    if form is ...:
        return None
    outer = _OUTER.get(type(form)) or form
    odd = [value for value in values if not outer.holds(value)]
    if odd:
        return f"its {name} is {short(odd[0])}, not {outer.what}"
    if isinstance(form, dict):
        return _mapping_fault(values, form, name)
    if isinstance(form, list | tuple):
        return misfit(list(chain.from_iterable(values)), form[0], name)
    return None


def _mapping_fault(values: Sequence[Values], form: Mapping[str, Form], name: str) -> str | None:
    for key, inner in form.items():
        word = key.removesuffix("?")
        held = [value[word] for value in values if word in value]
        if word == key and len(held) < len(values):
            return f"it lacks {word}" + (f" in its {name}" if name else "")
        if found := misfit(held, inner, f"{name} {word}".strip()):
            return found
    return None


def _free_fault(value: object, depth: int = 0) -> str | None:
    """Numbers that JSON has not, or that no float holds; nesting that no writer would bear."""
    if isinstance(value, int | float) and not abs(value) <= MOST:
        return f"it holds the number {short(value)}"
    if depth > DEEPEST:
        return "it is nested too deep"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, (_free_fault(each, depth + 1) for each in inner)), None)


def _cell_fault(
    cell: Values, budget: int | None, matched: int | None, seed: int | None
) -> str | None:
    """A cell's text names its budget and seed, too; an efficiency record's has no seed."""
    try:
        named = Cell.parse(cell["cell"])
    except BadInput as error:
        return str(error)
    if (named.budget, named.matched) != (budget, matched) or seed not in (None, named.seed):
        return f"its cell {short(cell['cell'])} is of another budget or seed"
    return None


def _ledger_fault(ledger: Sequence[Values], shape: Values) -> str | None:
    columns = [row[name] for row in ledger for name in ("entering", "cached", "planned")]
    if any(len(column) != shape["layers"] for column in columns):
        return f"its ledger is not of {shape['layers']} layers"
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
    if len(record.get("stock_seconds", ())) > max(lengths, default=0):
        yield "it has more rounds without hooks than with them"
    if len({run["rows"] for run in plain}) < len(plain):
        yield "it has two runs at one equal context"
