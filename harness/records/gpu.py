"""What a record says of the GPU's state, and why it would not be trusted."""

from __future__ import annotations

from typing import Any

MOST_UTILISATION_PERCENT = 10
SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of the driver's reasons for lower clocks; its power cap (0x04) is normal under load."""


def complaints(state: dict[str, Any], own_processes: int = 0) -> list[str]:
    """Why a measurement now would not be trusted; nothing where the state is not known."""
    found = []
    if state.get("processes", 0) > own_processes:
        found.append(f"{state['processes'] - own_processes} other processes are on it")
    load = state.get("utilisation_percent") or 0
    if not own_processes and load > MOST_UTILISATION_PERCENT:
        found.append(f"it is {load:g} % busy")
    bits = state.get("slowdown_bits") or 0
    return found + [name for bit, name in SLOWDOWNS.items() if bits & bit]
