"""Records: one immutable gzipped JSON file a finished piece of work, written atomically.

What only close study needs of each sample (`DETAILS`) goes into the second of two gzip members, as
"details" beside "samples": a table reads hundreds of records without parsing it. To any other
reader the file is one JSON document. Knows nothing else of what a record means.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from reprlib import repr as short
from typing import Any

from harness.errors import BadInput
from harness.records.faults import fault
from harness.records.identity import identity_hash
from harness.records.record import Record, record_of

SCHEMA = 1
SUFFIX = ".json.gz"
KINDS = ("accuracy", "efficiency")
DETAILS = ("first_token", "selections", "grids")
_PARTIAL = re.compile(r"\..{1,40}\.[0-9a-f]{8}\.tmp")
MOST_BYTES = 2**30
"""Of a file, and of each of its two parts unpacked."""
_HALF_A_LETTER = re.compile(r"\\u[dD][89a-fA-F]")  # harmless where its other half follows

Content = dict[str, Any]


class UnreadableRecordError(ValueError):
    """The file is torn, or is not a record of this schema; the message says which."""


class WrongContentError(UnreadableRecordError):
    """The file is whole and of this schema, but a reader could not use it; the message says why."""


def file_name(body: Mapping[str, Any]) -> str:
    """`{kind}-{cell}-{task}-{first 10 hex of the identity's hash}.json.gz`."""
    parts = [body["kind"], body.get("cell"), body["identity"].get("task")]
    stem = "-".join(re.sub(r"[^\w@#=.+]+", "_", part) for part in parts if part)
    return f"{stem[:180]}-{identity_hash(body['identity'])[:10]}{SUFFIX}"


def check_file(path: Path, replace: bool) -> None:
    """Raises BadInput unless a file could be put at `path`; only a regular file is replaced.

    A link is not: neither it nor what it names is meant.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise BadInput(f"{path} is no regular file, so it is not replaced")
    if path.exists() and not replace:
        raise BadInput(f"{path} exists; --force replaces it")


def write(directory: Path, body: Mapping[str, Any]) -> Path:
    """Write a record under its own name, replacing one of the same identity; all or nothing.

    Equal records give equal bytes. Creates the directory. Raises OSError, leaving no partial file.
    """
    light, details = _parted(body)
    head, tail = _json(light)[:-1], f',"details":{_json(details)}}}'
    path = directory / file_name(body)
    members = [gzip.compress(text.encode(), mtime=0) for text in (head, tail)]
    write_atomically(path, b"".join(members))
    return path


def _parted(body: Mapping[str, Any]) -> tuple[Content, list[Content]]:
    """The record without its samples' details, and these; an empty detail stays where it is."""
    samples = body.get("samples", ())
    details = [{k: s[k] for k in DETAILS if s.get(k)} for s in samples]
    light = [
        {k: v for k, v in sample.items() if k not in detail}
        for sample, detail in zip(samples, details, strict=True)
    ]
    return {**body, **({"samples": light} if "samples" in body else {})}, details


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
    content = _outlined(_parsed(head + tail))
    details, samples = content.pop("details", []), content.get("samples", [])
    if not _are_mappings(details) or not _are_mappings(samples) or len(details) != len(samples):
        raise WrongContentError("its details are not of its samples")
    for sample, detail in zip(samples, details, strict=True):
        sample.update(detail)
    return _well_formed(content, whole=True)


def _are_mappings(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def read_outline(path: Path) -> Record:
    """The record at `path` without its samples' `DETAILS`, unless empty; raises as `read` does.

    All of the file is checked to be there.
    """
    head, _ = _members(path)
    return checked(_parsed(head + "}"))


def _members(path: Path) -> tuple[str, str]:
    """The text of the first gzip member, and that of the others."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UnreadableRecordError("it is no regular file")
    if path.stat().st_size > MOST_BYTES:
        raise UnreadableRecordError("it is larger than any record of this harness")
    try:
        head, rest = _unpacked(path.read_bytes())
        tail = b""
        while rest:
            member, rest = _unpacked(rest)
            tail += member
        if not tail:
            raise EOFError
        return head.decode(), tail.decode()
    except (EOFError, zlib.error, UnicodeDecodeError):
        raise UnreadableRecordError("it is torn or not a record of this harness") from None


def _unpacked(content: bytes) -> tuple[bytes, bytes]:
    """One gzip member, and what follows it."""
    member = zlib.decompressobj(wbits=31)
    text = member.decompress(content, MOST_BYTES)
    if member.unconsumed_tail:
        raise UnreadableRecordError("it unpacks to more than any record of this harness")
    if not member.eof:
        raise EOFError
    return text, member.unused_data


def _parsed(text: str) -> object:
    try:
        content = json.loads(text)
        if _HALF_A_LETTER.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise WrongContentError("it holds half a letter") from None
    except (ValueError, RecursionError):  # no JSON, a number of too many digits, nested too deep
        raise UnreadableRecordError("it is not a record of this harness") from None
    return content


def checked(content: object) -> Record:
    """`content` if it has the form of a record's outline. Raises UnreadableRecordError otherwise.

    Its samples may have their details, which are not looked at.
    """
    return _well_formed(_outlined(content), whole=False)


def _outlined(content: object) -> Content:
    if not isinstance(content, dict) or content.get("kind") not in KINDS:
        raise UnreadableRecordError("it is not a record of this harness")
    if content.get("schema") != SCHEMA:
        raise UnreadableRecordError(f"its schema is {short(content.get('schema'))}, not {SCHEMA}")
    if not isinstance(content.get("identity"), dict):
        raise UnreadableRecordError("it lacks an identity")
    return content


def _well_formed(content: Content, whole: bool) -> Record:
    if found := fault(content, whole):
        raise WrongContentError(found)
    return record_of(content)


def outline(body: Mapping[str, Any]) -> Content:
    """What `read_outline` would read."""
    return _parted(body)[0]


def read_all(
    directories: Iterable[Path],
    warn: Callable[[str], None],
    read: Callable[[Path], Record] = read_outline,
) -> Iterator[Record]:
    """All records directly in the directories, as `read` gives them; other files go to `warn`."""
    for directory in directories:
        yield from readable(sorted(directory.glob(f"*{SUFFIX}")), warn, read)


def readable(
    paths: Iterable[Path],
    warn: Callable[[str], None],
    read: Callable[[Path], Record] = read_outline,
) -> Iterator[Record]:
    """The records at these paths; what cannot be read is named to `warn`, with the reason."""
    for path in paths:
        try:
            yield read(path)
        except (UnreadableRecordError, OSError) as error:
            warn(f"skipping {path}: {error}")
