"""Standard output that is full, closed, or has no dash in its encoding, and no traceback for it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO, cast


class OutputLostError(Exception):
    """Standard output took no more; `closed` tells that its reader went away."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror or error}")
        self.closed = isinstance(error, BrokenPipeError)


@contextmanager
def guarded_output() -> Iterator[None]:
    """What cannot be encoded is shown as `?`. Raises OutputLostError, at the latest at the end."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before the start
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    with redirect_stdout(cast(TextIO, _Guarded(sys.stdout))):
        yield
        sys.stdout.flush()


class _Guarded:
    """The stream, with an error of its own: typer takes any OSError for its own affair."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._guard():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._guard():
            self._stream.flush()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._discard()
            raise OutputLostError(error) from error

    def _discard(self) -> None:
        """What is still buffered would fail again when the interpreter ends."""
        with suppress(OSError):  # a stream without a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
