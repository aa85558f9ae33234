"""Is the GPU busy with something else, hot or slowed down? Asked of the driver's own tool."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

from harness.efficiency.trackers import Tracker, tracker
from harness.errors import BadInput
from harness.models.load import LoadedModel
from harness.records.gpu import GpuState, complaints

NOT_CHECKED = "not checked: nvidia-smi gave no answer"
FIELDS = {
    "utilisation_percent": "utilization.gpu",
    "temperature_celsius": "temperature.gpu",
    "sm_clock_mhz": "clocks.current.sm",
    "most_sm_clock_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.current.memory",
    "power_watts": "power.draw",
    "memory_used_mib": "memory.used",
}
REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""One question under its new and its old name."""


@tracker
class Gpu(Tracker):
    """Of the run the GPU's state around the rounds."""

    def warm(self, loaded: LoadedModel) -> dict[str, Any]:
        return {"gpu_warm": gpu_state(loaded.model.device)}

    def after(self, loaded: LoadedModel) -> dict[str, Any]:
        return {"gpu_after": gpu_state(loaded.model.device)}


def gpu_state(device: object) -> dict[str, Any]:
    """Clocks, temperature, load and other processes now; of a CPU nothing, see `NOT_CHECKED`."""
    if not str(device).startswith("cuda"):
        return {}
    name = _name(str(device))
    fields = _query("--query-gpu", name, FIELDS.values())
    if not fields:
        return {"problem": NOT_CHECKED}
    values = dict(zip(FIELDS, map(_number, fields[0]), strict=True))
    reasons = next(filter(None, (_query("--query-gpu", name, [n]) for n in REASONS)), [])
    others = _query("--query-compute-apps", name, ["pid", "used_memory"])
    return {**values, "slowdown_bits": _bits(reasons), "processes": len(others)}


def check_idle(device: str, allow_busy: bool) -> dict[str, Any]:
    """The state before anything runs there. Raises BadInput for a busy or slowed GPU."""
    state = gpu_state(device)
    found = complaints(GpuState.of(state))
    if found and not allow_busy:
        raise BadInput(
            f"the GPU is busy or slowed down: {', '.join(found)}; wait, or give --allow-busy "
            "to measure all the same, which the record then says"
        )
    return state


def _name(device: str) -> str:
    """The driver counts every GPU, torch those it is shown; both know a GPU by its UUID."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def _query(what: str, gpu: str, fields: Sequence[str] | Any) -> list[list[str]]:
    """Rows of the tool's answer, none where it is missing or refuses."""
    command = ["nvidia-smi", f"--id={gpu}", f"{what}={','.join(fields)}"]
    try:
        done = subprocess.run(
            [*command, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return [[part.strip() for part in line.split(",")] for line in lines]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "[N/A]" where the driver does not tell


def _bits(rows: list[list[str]]) -> int | None:
    try:
        return int(rows[0][0], 16)
    except (IndexError, ValueError):
        return None
