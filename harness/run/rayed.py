"""Ray itself: one of this machine, or a cluster that exists; and its room for workers."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from harness.errors import BadInput, blamed
from harness.models.environment import prepare_ray
from harness.run.request import Request

STORE = 2**28
"""Bytes that answers on their way to the driver may take; a unit has about 2 MB of them."""
PATIENCE = 5.0
"""Seconds that a cluster may take to let somebody in."""


@dataclass(frozen=True)
class Room:
    """`cores` and `gpus`: of each of the `workers`; `most_cores`: of one that is alone."""

    workers: int
    cores: int
    gpus: int
    most_cores: int


@contextmanager
def connected(request: Request) -> Iterator[Any]:
    """The module, connected to the cluster that is asked for, or to one that ends with this.

    Raises BadInput.
    """
    if find_spec("ray") is None:
        raise BadInput(
            "workers need Ray, which is not installed; pip install 'visual-token-pruning[ray]'"
        )
    if request.device.startswith("cuda:"):
        raise BadInput(
            f"--device {request.device} is one GPU, and each worker has one of its own; "
            "allowed: auto, cuda, cpu"
        )
    prepare_ray(alone=request.ray is None)
    import ray

    with blamed("Ray cannot be used"):
        if request.ray is None:
            ray.init(address="local", **_of_this_machine(request), **_quiet())
        else:
            _check_there(request.ray)
            ray.init(address=request.ray, **_quiet())
    try:
        yield ray
    finally:
        ray.shutdown()


def _quiet() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": logging.CRITICAL}


def _of_this_machine(request: Request) -> dict[str, Any]:
    cores = max(os.cpu_count() or 1, request.workers or 1)
    return {"num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE}


def _check_there(address: str) -> None:
    """Ray itself waits for minutes. Raises BadInput."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not (colon and port.isdecimal()):
        raise BadInput(f"a Ray cluster is HOST:PORT or auto, not {address!r}")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise BadInput(f"no Ray cluster answers at {address}: {error}") from error


def room(ray: Any, request: Request) -> Room:
    """As the cluster is now: a worker a GPU, or without GPUs a worker a machine, or as many as are
    asked for. Raises BadInput for more than one machine can ever have.
    """
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(resources.get("CPU", 0)) for resources in alive]
    gpus = 0 if request.device == "cpu" else int(sum(r.get("GPU", 0) for r in alive))
    workers = request.workers or gpus or sum(count > 0 for count in cpus) or 1
    if gpus and request.ray is None and workers > gpus:
        raise BadInput(f"--workers {workers} needs a GPU each, there are {gpus}")
    most = max(cpus, default=1)
    return Room(workers, max(min(sum(cpus) // workers, most), 1), int(gpus > 0), max(most, 1))
