"""Records: one immutable gzipped JSON file a finished piece of work, written atomically.

What only close study needs of each sample (`DETAILS`) goes into the second of two gzip members, as
"details" beside "samples": a table reads hundreds of records without parsing it. To any other
reader the file is one JSON document. Knows nothing else of what a record means.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

SCHEMA = 1
SUFFIX = ".json.gz"
KINDS = ("accuracy", "efficiency")
_REQUIRED = {
    "accuracy": ("cell", "status", "method", "identity", "provenance"),
    "efficiency": ("cells", "shape", "identity", "provenance"),
}
DETAILS = ("first_token", "selections")
_PARTIAL = re.compile(r"\..{1,40}\.[0-9a-f]{8}\.tmp")
_REQUIRED_IF_OK = ("ledger", "samples", "shape")

Record = dict[str, Any]


class UnreadableRecordError(ValueError):
    """The file is torn, or is not a record of this schema; the message says which."""


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Hex SHA-256 of the identity as canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_name(record: Mapping[str, Any]) -> str:
    """`{kind}-{cell}-{task}-{first 10 hex of the identity's hash}.json.gz`."""
    parts = [record["kind"], record.get("cell"), record["identity"].get("task")]
    stem = "-".join(re.sub(r"[^\w@#=.+]+", "_", part) for part in parts if part)
    return f"{stem[:180]}-{identity_hash(record['identity'])[:10]}{SUFFIX}"


def write(directory: Path, record: Mapping[str, Any]) -> Path:
    """Write `record` under its own name, replacing one of the same identity; all or nothing.

    Equal records give equal bytes. Creates the directory. Raises OSError, leaving no partial file.
    """
    light, details = _parted(record)
    head, tail = _json(light)[:-1], f',"details":{_json(details)}}}'
    path = directory / file_name(record)
    members = [gzip.compress(text.encode(), mtime=0) for text in (head, tail)]
    write_atomically(path, b"".join(members))
    return path


def _parted(record: Mapping[str, Any]) -> tuple[Record, list[Record]]:
    """The record without its samples' details, and these; an empty detail stays where it is."""
    samples = record.get("samples", ())
    details = [{k: s[k] for k in DETAILS if s.get(k)} for s in samples]
    light = [
        {k: v for k, v in sample.items() if k not in detail}
        for sample, detail in zip(samples, details, strict=True)
    ]
    return {**record, **({"samples": light} if "samples" in record else {})}, details


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def unwritable(content: object) -> str | None:
    """Why a record cannot hold `content`, with the place of what is no number; None if it can."""
    try:
        _json(content).encode()
    except (TypeError, ValueError) as error:
        return next(_not_finite(content), f"no JSON: {error}")
    return None


def _not_finite(value: object, place: str = "") -> Iterator[str]:
    if isinstance(value, float) and not isfinite(value):
        yield f"{place.removeprefix('.')} is {value}"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _not_finite(inner, f"{place}[{i}]")


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path`, so that a crash at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name[:40]}.{secrets.token_hex(4)}.tmp"
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def remove_partial(directory: Path) -> None:
    """Remove what a process that was killed while writing left; none may be writing there now."""
    for path in directory.glob(".*.tmp"):
        if _PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut, where directories can be opened (not on Windows)."""
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Record:
    """The record at `path`, whole. Raises UnreadableRecordError (torn or foreign) and OSError."""
    head, tail = _members(path)
    record = checked(_parsed(head + tail))
    for sample, details in zip(record.get("samples", ()), record.pop("details", ()), strict=True):
        sample.update(details)
    return record


def read_outline(path: Path) -> Record:
    """The record at `path` without its samples' `DETAILS`, unless empty; raises as `read` does.

    All of the file is checked to be there.
    """
    head, _ = _members(path)
    return checked(_parsed(head + "}"))


def _members(path: Path) -> tuple[str, str]:
    """The text of the first gzip member, and that of the others."""
    content, first = path.read_bytes(), zlib.decompressobj(wbits=31)
    try:
        head = first.decompress(content)
        tail = gzip.decompress(first.unused_data)
        if not (first.eof and tail):
            raise EOFError
        return head.decode(), tail.decode()
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError):
        raise UnreadableRecordError("it is torn or not a record of this harness") from None


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise UnreadableRecordError("it is not a record of this harness") from None


def checked(content: object) -> Record:
    """`content` if it has the outline of a record. Raises UnreadableRecordError otherwise."""
    if not isinstance(content, dict) or content.get("kind") not in KINDS:
        raise UnreadableRecordError("it is not a record of this harness")
    if content.get("schema") != SCHEMA:
        raise UnreadableRecordError(f"its schema is {content.get('schema')!r}, not {SCHEMA}")
    required = _REQUIRED[content["kind"]]
    required += _REQUIRED_IF_OK if content.get("status") == "ok" else ()
    missing = [key for key in required if key not in content]
    if missing or not isinstance(content["identity"], dict):
        raise UnreadableRecordError(f"it lacks {', '.join(missing) or 'an identity'}")
    return content


def outline(record: Mapping[str, Any]) -> Record:
    """The record as `read_outline` would give it."""
    return _parted(record)[0]


def read_all(
    directories: Iterable[Path],
    warn: Callable[[str], None],
    read: Callable[[Path], Record] = read_outline,
) -> Iterator[Record]:
    """All records directly in the directories, as `read` gives them; other files go to `warn`."""
    for directory in directories:
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            try:
                yield read(path)
            except (UnreadableRecordError, OSError) as error:
                warn(f"skipping {path}: {error}")
