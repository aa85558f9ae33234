"""Workers on a real Ray: the records of one process, whoever dies in the middle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import crewed_comparison
import psutil
import pytest
from from_bodies import bodies_in

from harness.records.shards import UNFINISHED

pytestmark = pytest.mark.slow
PATIENCE = 240.0
RECORDS = crewed_comparison.TASKS * crewed_comparison.CELLS
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def started(directory: Path, *address: str) -> psutil.Popen:
    command = [sys.executable, crewed_comparison.__file__, str(directory), *address]
    with (directory.parent / f"{directory.name}.log").open("ab") as log:
        return psutil.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log)


def ended(driver: psutil.Popen) -> int:
    return driver.wait(PATIENCE)


def workers_of(driver: psutil.Popen) -> list[psutil.Process]:
    return [
        p for p in driver.children(recursive=True) if "ray::Worker" in " ".join(p.cmdline()[:1])
    ]


def wait_until(true, why: str) -> None:
    last = monotonic() + PATIENCE
    while not true():
        assert monotonic() < last, why
        sleep(0.1)


def shards(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / UNFINISHED).glob("*.json.gz")}


def records(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*.json.gz")}


def measured(directory: Path) -> list[dict]:
    """All that does not depend on when and by whom."""
    return [
        {k: v for k, v in body.items() if k not in ("provenance", "wall_seconds")}
        for body in bodies_in(directory, pytest.fail)
    ]


def check_answered_once(directory: Path) -> None:
    for body in bodies_in(directory, pytest.fail):
        who = body["provenance"]["workers"]
        assert sorted(n for numbers in who.values() for n in numbers) == [1, 2]
    assert not (directory / UNFINISHED).exists()
    assert not list(directory.rglob(".*.tmp"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """What one process makes."""
    directory = tmp_path_factory.mktemp("workers") / "alone"
    crewed_comparison.compare(str(directory))
    return directory


def test_two_workers_make_the_records_of_one_process(alone, tmp_path):
    assert ended(started(tmp_path / "two")) == 0
    assert len(measured(alone)) == RECORDS
    assert measured(tmp_path / "two") == measured(alone)
    assert records(tmp_path / "two").keys() == records(alone).keys()
    check_answered_once(tmp_path / "two")


def test_whoever_is_killed_nothing_is_lost(alone, tmp_path):
    directory = tmp_path / "killed"
    driver = started(directory)
    wait_until(lambda: len(shards(directory)) > 2, "no shard was answered")
    workers_of(driver)[0].send_signal(signal.SIGKILL)
    wait_until(lambda: len(shards(directory)) > 6, "nobody went on")
    left = [driver, *driver.children(recursive=True)]
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = {**shards(directory), **records(directory)}
    _, alive = psutil.wait_procs(left, 60)
    assert not alive
    driver = started(directory)
    assert ended(driver) == 0
    log = (tmp_path / "killed.log").read_text()
    assert "is lost: " in log
    assert {
        n: records(directory)[n] for n in kept if n in records(directory)
    }.items() <= kept.items()
    assert measured(directory) == measured(alone)
    check_answered_once(directory)


# --- a cluster of two nodes on one machine --------------------------------------------------------


def node(*arguments: str) -> psutil.Popen:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    environment = {**ENVIRONMENT, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    given = ["--disable-usage-stats", "--object-store-memory=100000000", *arguments]
    return psutil.Popen([*command, *given], env=environment, stdout=subprocess.DEVNULL)


def leave(started_node: psutil.Popen) -> None:
    """All its processes at once, as if the machine were gone."""
    for process in [*started_node.children(recursive=True), started_node]:
        process.kill()
    started_node.wait()


@pytest.fixture
def cluster() -> Iterator[tuple[str, psutil.Popen]]:
    """Its address, and its second node."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    head = node("--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false")
    wait_until(
        lambda: socket.socket().connect_ex(("127.0.0.1", int(address.split(":")[1]))) == 0, ""
    )
    second = node(f"--address={address}")
    yield address, second
    for each in (second, head):
        if each.is_running():
            leave(each)


def test_a_node_of_a_cluster_leaves_in_the_middle(alone, tmp_path, cluster):
    address, second = cluster
    directory = tmp_path / "cluster"
    driver = started(directory, address)
    wait_until(lambda: len(shards(directory)) > 2, "no shard was answered")
    leave(second)
    assert ended(driver) == 0
    assert measured(directory) == measured(alone)
    check_answered_once(directory)
