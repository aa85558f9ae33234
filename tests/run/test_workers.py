"""Workers on a real Ray: the records of one process, whoever dies in the middle.

`tests/benchmarks/kill_crew.py` does so thirty times.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from crewed_comparison import (
    CELLS,
    OF_A_CLUSTER,
    PATIENCE,
    TWO,
    check_answered_once,
    compare,
    log_of,
    measured,
    records,
    shards,
    started,
    wait_until,
    workers_of,
)

pytestmark = pytest.mark.slow

LOST = "is lost: its worker process has died"


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """What one process makes of all embedded tasks."""
    directory = tmp_path_factory.mktemp("workers") / "alone"
    compare(directory)
    return directory


def test_two_workers_make_the_records_of_one_process(alone, tmp_path):
    directory = tmp_path / "two"
    assert started(directory, "embedded").wait(PATIENCE) == 0
    assert len(measured(alone)) == 5 * CELLS
    assert measured(directory) == measured(alone)
    assert records(directory).keys() == records(alone).keys()
    check_answered_once(directory)


def test_whoever_is_killed_nothing_is_lost(alone, tmp_path):
    directory = tmp_path / "killed"
    driver = started(directory, TWO)
    wait_until(lambda: len(shards(directory)) > 1, "no shard was answered")
    workers_of(driver)[0].kill()
    wait_until(lambda: LOST in log_of(directory).read_text(), "nobody was missed")
    wait_until(lambda: len(shards(directory)) > 3, "nobody went on")
    family = [driver, *driver.children(recursive=True)]
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = {**shards(directory), **records(directory)}
    assert started(directory, TWO).wait(PATIENCE) == 0
    made = records(directory)
    assert {name: made[name] for name in kept if name in made}.items() <= kept.items()
    assert measured(directory) == measured(alone, TWO)
    check_answered_once(directory)
    assert not psutil.wait_procs(family, PATIENCE)[1]


# --- a cluster of two nodes on one machine -----------------------------------------------------


def node(number: int, *arguments: str) -> psutil.Popen:
    """Each with an address of its own on the loopback."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    command += [f"--node-ip-address=127.0.0.{number}", "--object-store-memory=100000000"]
    command += ["--disable-usage-stats", *arguments]
    return psutil.Popen(command, env=OF_A_CLUSTER, stdout=subprocess.DEVNULL)


def leave(started_node: psutil.Popen) -> None:
    """All its processes at once, as if the machine were gone."""
    for process in [*started_node.children(recursive=True), started_node]:
        process.kill()
    started_node.wait()


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.2", port)) == 0


@pytest.fixture
def cluster() -> Iterator[tuple[str, psutil.Popen]]:
    """Its address, and its second node."""
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    nodes = [node(2, "--head", f"--port={port}", "--include-dashboard=false")]
    wait_until(lambda: answers(port), "the cluster has no head")
    address = f"127.0.0.2:{port}"
    nodes.append(node(3, f"--address={address}"))
    yield address, nodes[1]
    for each in reversed(nodes):
        if each.is_running():
            leave(each)


def test_a_node_of_a_cluster_leaves_in_the_middle(alone, tmp_path, cluster):
    address, second = cluster
    directory = tmp_path / "cluster"
    driver = started(directory, TWO, address)
    wait_until(lambda: log_of(directory).read_text().count("is ready") == 2, "two did not begin")
    wait_until(lambda: len(shards(directory)) > 1, "no shard was answered")
    leave(second)
    assert driver.wait(PATIENCE) == 0
    assert "is lost: " in log_of(directory).read_text()
    assert measured(directory) == measured(alone, TWO)
    check_answered_once(directory)
