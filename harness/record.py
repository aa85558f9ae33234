"""Records: one immutable gzipped JSON file a finished piece of work, written atomically.

Knows nothing of what a record means beyond the fields that name its file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import error as ZlibError  # noqa: N812

SCHEMA = 1
SUFFIX = ".json.gz"
KINDS = ("accuracy", "efficiency")
_REQUIRED = {
    "accuracy": ("cell", "status", "method", "identity", "provenance"),
    "efficiency": ("cells", "shape", "identity", "provenance"),
}
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
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    path = directory / file_name(record)
    write_atomically(path, gzip.compress(text.encode(), mtime=0))
    return path


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
    """The record at `path`. Raises UnreadableRecordError if it is torn or foreign, and OSError."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
    except (EOFError, ZlibError, gzip.BadGzipFile, UnicodeDecodeError, json.JSONDecodeError):
        raise UnreadableRecordError("it is torn or not gzipped JSON") from None
    return checked(content)


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


def read_all(directories: Iterable[Path], warn: Callable[[str], None]) -> Iterator[Record]:
    """All records directly in the directories, by file name; others are named to `warn`."""
    for directory in directories:
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            try:
                yield read(path)
            except (UnreadableRecordError, OSError) as error:
                warn(f"skipping {path}: {error}")
