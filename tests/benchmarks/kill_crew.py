"""A comparison by two workers, killed again and again: a worker, the driver, or both.

`python tests/benchmarks/kill_crew.py [KILLS]`, with `tests/helpers` on the path; takes minutes.
Prints what was killed. Fails where a record or a shard is lost, torn or answered twice, or where
the last tables are not those of one process.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import psutil
from crewed_comparison import (
    PATIENCE,
    TWO,
    check_answered_once,
    compare,
    measured,
    records,
    shards,
    started,
    workers_of,
)

from harness.records.file import read, read_all
from harness.tables.layouts import tables

LONGEST = 30.0
"""Seconds between two kills at most."""


def check_whole(directory: Path) -> None:
    """Whatever is there can be read, and is not gone meanwhile."""
    for path in [*directory.glob("*.json.gz"), *directory.glob("unfinished/*.json.gz")]:
        with suppress(FileNotFoundError):
            read(path)


def rows(directory: Path) -> list[Any]:
    """Of the tables; their notes say which commit it was."""
    return [table.rows for table in tables(list(read_all([directory], print)))]


def check_kept(before: dict[str, bytes], directory: Path, done: dict[str, bytes]) -> None:
    """A record stays as it is; a shard stays, too, or is in a record that there is now."""
    now = records(directory)
    assert {name: now[name] for name in done}.items() == done.items(), "a record was lost"
    gone = before.keys() - shards(directory).keys()
    assert len(gone) <= 2 * (len(now) - len(done)), "a shard was lost"
    assert all(shards(directory)[n] == c for n, c in before.items() if n not in gone)


def kill(driver: psutil.Popen, moments: random.Random) -> list[str]:
    """A worker, the driver, or both; what it was, nothing where no worker has begun."""
    what = moments.choice(("worker", "driver", "both"))
    workers = workers_of(driver)
    if what != "driver" and workers:
        moments.choice(workers).kill()
    if what != "worker":
        driver.kill()
        driver.wait()
    return [what] if workers or what != "worker" else []


def attacked(directory: Path, kills: int, moments: random.Random) -> list[str]:
    """What was killed, until so many kills are done; a comparison that ends begins anew beside."""
    found: list[str] = []
    for number in count():
        place = directory / str(number)
        driver = started(place, TWO)
        while len(found) < kills and driver.poll() is None:
            before, done = shards(place), records(place)
            sleep(moments.uniform(0, LONGEST))
            if driver.poll() is None:
                found += kill(driver, moments)
            check_whole(place)
            check_kept(before, place, done)
            if driver.poll() is not None and driver.poll() != 0:
                driver = started(place, TWO)
        assert driver.wait(PATIENCE) == 0
        check_answered_once(place)
        print(f"{len(found)} kills: comparison {number} is whole", flush=True)
        if len(found) >= kills:
            return found
    raise AssertionError


def main(kills: int) -> None:
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        compare(directory / "alone", TWO)
        found = attacked(directory, kills, random.Random(0))
        for place in filter(Path.is_dir, directory.glob("[0-9]*")):
            assert measured(place) == measured(directory / "alone")
            assert rows(place) == rows(directory / "alone")
    print({what: found.count(what) for what in sorted(set(found))})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
