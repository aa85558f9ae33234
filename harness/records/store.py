"""The records of one results directory: which can be reused, and which were finished since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.records import file as records
from harness.records.file import Record
from harness.records.ledger import judged
from harness.records.lock import held


class Store:
    """Reusable is what succeeded, promise kept, or can never succeed; `fresh` reuses nothing."""

    def __init__(self, directory: Path, warn: Callable[[str], None], fresh: bool = False) -> None:
        self.directory, self.written = directory, 0
        found = () if fresh else list(records.read_all([directory], warn))
        self._reusable = _by_identity(record for record in found if _reusable(record))
        self._answered = _by_identity(record for record in found if is_answered(record))

    def find(self, identity: Mapping[str, Any]) -> Record | None:
        """The record of exactly this identity."""
        known = self._reusable.get(records.identity_hash(identity))
        return known if known is not None and known["identity"] == identity else None

    def answered(self, identity: Mapping[str, Any]) -> Record | None:
        """The whole record of exactly this identity whose answers could not be scored."""
        known = self._answered.get(records.identity_hash(identity))
        if known is None or known["identity"] != identity:
            return None
        return records.read(self.directory / records.file_name(known))

    def keep(self, record: Record) -> Record:
        """Write it now; its outline. Raises BadInput when disk or permissions do not allow it."""
        with self._writing():
            records.write(self.directory, record)
        self.written += 1
        return records.outline(record)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"cannot write to {self.directory}: {error.strerror or error}; "
                f"the {self.written} records that were finished before are kept"
            ) from error


def _by_identity(found: Iterable[Record]) -> dict[str, Record]:
    return {records.identity_hash(record["identity"]): record for record in found}


def is_answered(record: Record) -> bool:
    """Whether all its questions were answered, though they could not be scored."""
    return record.get("status") == "failed" and "samples" in record


@contextmanager
def opened(directory: Path, warn: Callable[[str], None], fresh: bool = False) -> Iterator[Store]:
    """The directory's records, for this process alone. Raises BadInput as `lock.held` does."""
    with held(directory):
        store = Store(directory, warn, fresh)
        with store._writing():
            records.remove_partial(directory)
        yield store


def _reusable(record: Record) -> bool:
    known = judged(record)
    cells = known["cells"] if record["kind"] == "efficiency" else [known]
    return all(cell["status"] in ("ok", "infeasible") for cell in cells)
