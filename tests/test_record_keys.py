"""Only the room of records knows the keys of their JSON, read from the sources; and proof of that.

The keys are those of the types in `bodies` and `timed_bodies`. A subscript or a `get` with one of
them as a literal, in a room that reads records, is an offence, whatever it is a key of there.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import is_typeddict

import pytest

from harness.records import bodies, timed_bodies
from harness.records.phases import PHASES

ROOT = Path(__file__).parent.parent
READERS = ("harness/analysis", "harness/tables", "harness/regress", "harness/run/rescore.py")
NO_RECORDS = {
    "harness/regress/benchmarks.py",
    "harness/tables/yardsticks.py",
    "harness/tables/published/__init__.py",
}
"""These read JSON and CSV of others."""
COMPUTED = {"prefill", "decode", "selection", "end_to_end"}
"""Phases by which what is computed from records is held, too."""


def keys() -> set[str]:
    types = [t for module in (bodies, timed_bodies) for t in vars(module).values()]
    named = {key for t in types if is_typeddict(t) for key in t.__annotations__}
    of_shapes = {key.removesuffix("?") for key in bodies.SHAPE}
    return (named | of_shapes | {phase.name for phase in PHASES}) - COMPUTED


def offences(tree: ast.Module) -> list[str]:
    """Lines that look up a key of a record."""
    known = keys()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            looked_up: ast.expr | None = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            looked_up = node.args[0] if node.func.attr in ("get", "pop") and node.args else None
        else:
            continue
        if isinstance(looked_up, ast.Constant) and looked_up.value in known:
            found.append(f"{node.lineno}: {looked_up.value}")
    return found


def test_no_reader_looks_up_a_key_of_a_record():
    paths = [p for room in READERS for p in [ROOT / room, *sorted((ROOT / room).rglob("*.py"))]]
    sources = {p.relative_to(ROOT).as_posix(): p for p in paths if p.suffix == ".py"}
    assert sources.keys() > NO_RECORDS
    read = {file: path.read_text() for file, path in sources.items() if file not in NO_RECORDS}
    assert len(read) > 40
    found = {file: bad for file, text in read.items() if (bad := offences(ast.parse(text)))}
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        'record["identity"]["task"]',
        'record.body.get("metrics", {})',
        'sample["score"]',
        'row["selection_flops"]',
        'shape["image_tokens"]',
        'cell["raw_seconds"]["stages"]',
        'body.pop("details", []), run["equal_context"]',
        'state.get("sm_clock_mhz")',
    ],
)
def test_an_offence_is_found(line):
    assert offences(ast.parse(f"def f(x):\n    return {line}"))
    assert not offences(ast.parse('def f(x):\n    return x.samples, x["mean"], x.raw("decode")'))
