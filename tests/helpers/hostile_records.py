"""Records with one fault at a random place, as a hand or another program would leave them."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

FAULTS = {
    "null": None,
    "a word": "many",
    "no text": "",
    "a number": 3,
    "a fraction": 0.5,
    "below zero": -1,
    "infinite": 1e400,
    "not a number": float("nan"),
    "huge": 10**400,
    "large": 10**17,
    "a list": ["many"],
    "an empty list": [],
    "a mapping": {"many": 1},
    "an empty mapping": {},
    "yes": True,
    "a broken letter": "\ud800",
    "deep": json.loads("[" * 200 + "]" * 200),
}


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Path to every value within; of a long list only the ends."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index in {0, len(value) - 1} if value else ():
            yield from places(value[index], (*path, index))


def mutated(record: dict[str, Any], draw: random.Random) -> tuple[dict[str, Any], str]:
    """The record with one value deleted, doubled or replaced, and what was done."""
    changed = deepcopy(record)
    # by the keys alone, so that long lists of samples do not draw most of the faults
    kinds = {tuple(k for k in path if isinstance(k, str)): path for path in places(changed)}
    path = draw.choice(sorted(kinds.values(), key=str))
    inside = changed
    for step in path[:-1]:
        inside = inside[step]
    fault = draw.choice(["deleted", "doubled", *FAULTS])
    if fault == "deleted":
        del inside[path[-1]]
    elif fault == "doubled" and isinstance(inside, list):
        inside.append(inside[path[-1]])
    else:
        inside[path[-1]] = FAULTS.get(fault)
    return changed, f"{'.'.join(map(str, path))} {fault}"


def put(path: Path, record: dict[str, Any]) -> None:
    """Write what `harness.records.file.write` would refuse to write."""
    light = dict(record)
    samples = record.get("samples")
    details = []
    if isinstance(samples, list) and all(isinstance(sample, dict) for sample in samples):
        keys = ("first_token", "selections")
        details = [{k: s[k] for k in keys if s.get(k)} for s in samples]
        light["samples"] = [
            {k: v for k, v in sample.items() if k not in detail}
            for sample, detail in zip(samples, details, strict=True)
        ]
    texts = json.dumps(light)[:-1], f',"details":{json.dumps(details)}}}'
    path.write_bytes(b"".join(gzip.compress(text.encode()) for text in texts))
