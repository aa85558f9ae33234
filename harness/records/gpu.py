"""What a record says of the GPU's state, and why it would not be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MOST_UTILISATION_PERCENT = 10
SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of the driver's reasons for lower clocks; its power cap (0x04) is normal under load."""


@dataclass(frozen=True)
class GpuState:
    """None is what the driver did not tell; `problem`: why it told nothing."""

    problem: str = ""
    processes: int | None = None
    utilisation_percent: float | None = None
    slowdown_bits: int | None = None
    sm_clock_mhz: float | None = None
    most_sm_clock_mhz: float | None = None
    temperature_celsius: float | None = None

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> GpuState | None:
        """None of a CPU."""
        known = [field.name for field in fields(cls)]
        return cls(**{key: state[key] for key in known if key in state}) if state else None


def complaints(state: GpuState | None, own_processes: int = 0) -> list[str]:
    """Why a measurement now would not be trusted; nothing where the state is not known."""
    if state is None:
        return []
    found = []
    if (state.processes or 0) > own_processes:
        found.append(f"{(state.processes or 0) - own_processes} other processes are on it")
    load = state.utilisation_percent or 0
    if not own_processes and load > MOST_UTILISATION_PERCENT:
        found.append(f"it is {load:g} % busy")
    bits = state.slowdown_bits or 0
    return found + [name for bit, name in SLOWDOWNS.items() if bits & bit]
