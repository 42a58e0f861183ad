"""Query `nvidia-smi` for the GPUs, their settings, and the reasons for low clocks.

Without that program, or where it fails, there are no GPUs and all answers are empty.
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
"""Name in the fingerprint -> field of nvidia-smi."""

COUNTERS = ("sw_power_cap", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
"""Reasons for low clocks whose durations newer drivers count, in microseconds since loading."""

THROTTLE_MASK = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""Bits of these reasons in the mask of current ones, which all drivers report (NVML)."""


def describe() -> dict[str, Any]:
    """Return GPU names with memory, the driver, and settings that change speed."""
    gpus = query("name", "memory.total")
    if not gpus:
        return {"gpus": [], "driver": "", "gpu_settings": {}}

    drivers = [row[0] for row in query("driver_version")]
    settings = {name: query(field) for name, field in SETTINGS.items()}
    return {
        "gpus": [", ".join(row) for row in gpus],
        "driver": drivers[0] if drivers else "",
        "gpu_settings": {name: [row[0] for row in rows] for name, rows in settings.items() if rows},
    }


@functools.cache
def why_unavailable(device: str) -> str:
    """Return why a device cannot be used, as far as nvidia-smi shows; empty if it may be there."""
    if device.partition(":")[0] not in ("gpu", "cuda") or query("name"):
        return ""
    return f"device {device!r} is not here: nvidia-smi is missing, or finds no GPU"


def throttled_us() -> list[float] | None:
    """Return microseconds of throttling by power or heat per GPU; None if they are not counted."""
    rows = query(*(f"clocks_event_reasons_counters.{name}" for name in COUNTERS))
    try:
        return [sum(map(float, row)) for row in rows] or None
    except ValueError:  # `[N/A]`
        return None


def is_throttled() -> bool:
    """Return True if power or heat is lowering a GPU's clock now."""
    masks = query("clocks_throttle_reasons.active")
    try:
        return any(int(row[0], 16) & THROTTLE_MASK for row in masks)
    except ValueError:
        return False


def query(*fields: str) -> list[list[str]]:
    """Return one row per GPU, without units; no rows if the driver does not know a field."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    lines = output(command).splitlines()
    return [[value.strip() for value in line.split(",")] for line in lines if line.strip()]
