"""One process at a time in an output directory.

The lock is the system's, on a file that names its holder. It ends with the process, however that
ends: a file that a killed process left behind is taken over. Windows has no such locks; there
nothing is held.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from harness.errors import BadInput, sentence
from harness.records.provenance import now

LOCK = ".lock"


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep the directory for this process, making it if need be.

    Raises BadInput where another process has it, naming that one, and where nothing can be written.
    """
    is_new = not directory.exists()
    path = directory / LOCK
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
    except OSError as error:
        raise BadInput(f"cannot write to {directory}: {error.strerror or error}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked, so that it is still this process's
        file.close()
        if is_new:
            with suppress(OSError):  # it holds what was written
                directory.rmdir()


def _locked(path: Path) -> TextIO:
    """The open file; the lock lasts until it is closed."""
    while True:
        file = path.open("a+", encoding="utf-8")
        if not _lock(file):
            with file:
                file.seek(0)
                holder = _printable(file.read(200)) or "another process"
            raise BadInput(
                f"{path.parent} is in use by {holder}; wait for its end, or give another directory"
            )
        if _is_at(path, file):
            break
        file.close()  # its holder has just removed it
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {now()}")
    file.flush()
    return file


def _lock(file: TextIO) -> bool:
    """Whether no other process has the file."""
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _printable(text: str) -> str:
    return sentence("".join(c if c.isprintable() else " " for c in text))
