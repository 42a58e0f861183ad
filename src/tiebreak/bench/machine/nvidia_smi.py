"""What `nvidia-smi` tells of the GPUs: who they are, how they are set, and what held them back.

Where there is no such program, or it fails, there are no GPUs here and nothing is said.
"""

from __future__ import annotations

import functools
from typing import Any

from tiebreak.core.git import output

SETTINGS = {
    "max_sm_clock": "clocks.max.sm",
    "max_memory_clock": "clocks.max.memory",
    "application_clock": "clocks.applications.graphics",
    "power_limit": "power.limit",
    "persistence": "persistence_mode",
    "compute_mode": "compute_mode",
    "ecc": "ecc.mode.current",
    "mig": "mig.mode.current",
}
"""Our name -> nvidia-smi's."""

COUNTERS = ("sw_power_cap", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
"""Reasons for low clocks whose durations newer drivers count, in microseconds since they loaded."""
HELD_BACK = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""The same reasons in the mask of what holds now, which all drivers have (NVML's constants)."""


def describe() -> dict[str, Any]:
    """Names with memory, the driver, and settings that change speed; empty values without a GPU."""
    names = query("name", "memory.total")
    found = {name: query(field) for name, field in SETTINGS.items()} if names else {}
    return {
        "gpus": [", ".join(row) for row in names],
        "driver": next((row[0] for row in query("driver_version")), "") if names else "",
        "gpu_settings": {name: [row[0] for row in rows] for name, rows in found.items() if rows},
    }


@functools.cache
def why_unavailable(device: str) -> str:
    """Why a device cannot be measured on, as far as it shows from outside; empty if it may be."""
    if device.partition(":")[0] not in ("gpu", "cuda") or query("name"):
        return ""
    return f"device {device!r} is not here: nvidia-smi is missing, or finds no GPU"


def held_back_us() -> list[float] | None:
    """Microseconds for which power or heat has kept each GPU's clock down; None if not counted."""
    rows = query(*(f"clocks_event_reasons_counters.{name}" for name in COUNTERS))
    try:
        return [sum(map(float, row)) for row in rows] or None
    except ValueError:  # `[N/A]`
        return None


def is_held_back() -> bool:
    """Whether power or heat keeps a GPU's clock down at this moment."""
    masks = query("clocks_throttle_reasons.active")
    try:
        return any(int(row[0], 16) & HELD_BACK for row in masks)
    except ValueError:
        return False


def query(*fields: str) -> list[list[str]]:
    """One row per GPU, without units. A field that this driver does not know: no rows at all."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    lines = output(command).splitlines()
    return [[value.strip() for value in line.split(",")] for line in lines if line.strip()]
