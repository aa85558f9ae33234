"""The records of one results directory: which can be reused, and which were finished since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.records import file as records
from harness.records.identity import identity_hash
from harness.records.lock import held
from harness.records.record import AccuracyRecord, Record, record_of
from harness.records.shards import UNFINISHED, Shards


class Store:
    """Reusable is what succeeded, promise kept, or can never succeed; `fresh` reuses nothing."""

    def __init__(self, directory: Path, warn: Callable[[str], None], fresh: bool = False) -> None:
        self.directory, self.written = directory, 0
        self._warn, self._fresh = warn, fresh
        found = () if fresh else list(records.read_all([directory], warn))
        self._reusable = _by_identity(record for record in found if _reusable(record))
        self._answered = _by_identity(record for record in found if is_unscored(record))

    def find(self, identity: Mapping[str, Any]) -> Any:
        """The record of exactly this identity, of the kind that it is of, or None."""
        return _exactly(self._reusable, identity)

    def answered(self, identity: Mapping[str, Any]) -> Any:
        """The whole record of exactly this identity whose answers could not be scored."""
        known = _exactly(self._answered, identity)
        return known and records.read(self.directory / records.file_name(known.body))

    def keep(self, body: Mapping[str, Any]) -> Record:
        """Write it now; the record's outline. Raises BadInput when disk or permissions do not allow
        it.
        """
        with self._writing():
            records.write(self.directory, body)
        self.written += 1
        return record_of(records.outline(body))

    def shards(self, outline: Mapping[str, Any], documents: Sequence[Sequence[int]]) -> Shards:
        """Those of a record that is not there yet; see `Shards`."""
        shards = Shards(self.directory, outline, documents, self._warn)
        if self._fresh:
            shards.forget()
        return shards

    def add(self, shards: Shards, number: int, part: Mapping[str, Any], worker: str) -> None:
        """Keep the answers of a shard. Raises BadInput as `keep` does."""
        with self._writing():
            shards.add(number, part, worker)

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
    return {record.identity.hash: record for record in found}


def _exactly(known: Mapping[str, Record], identity: Mapping[str, Any]) -> Record | None:
    found = known.get(identity_hash(identity))
    return found if found is not None and found.identity.body == identity else None


def is_unscored(record: Record) -> bool:
    """Whether all its questions were answered, though they could not be scored."""
    return isinstance(record, AccuracyRecord) and record.is_unscored


@contextmanager
def opened(directory: Path, warn: Callable[[str], None], fresh: bool = False) -> Iterator[Store]:
    """The directory's records, for this process alone. Raises BadInput as `lock.held` does."""
    with held(directory):
        store = Store(directory, warn, fresh)
        with store._writing():
            records.remove_partial(directory)
            records.remove_partial(directory / UNFINISHED)
        yield store


def _reusable(record: Record) -> bool:
    results = [record] if isinstance(record, AccuracyRecord) else record.cells
    return all(result.status in ("ok", "infeasible") for result in results)
