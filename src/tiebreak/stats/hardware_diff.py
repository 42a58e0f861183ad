"""Compare the machine records of two results folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tiebreak.core.config import digest

Machine = Mapping[str, Any]

HARDWARE = ("cpu", "cores", "memory_bytes", "kernel", "gpus", "host_hash")
"""Fields that identify the hardware in records of schema 1, which have no digest of it."""

IGNORED = ("hardware", "load_average", "canary")
"""Fields that differ between any two runs, or repeat others."""


class FactDiff(NamedTuple):
    """One fact that differs, as text; empty on the side that does not have it."""

    name: str
    a: str
    b: str


def same_hardware(a: Machine, b: Machine) -> bool:
    """Return True if both were measured on the same hardware, with whatever software."""
    if not a or not b:
        return False
    if a.get("hardware") and b.get("hardware"):
        return a["hardware"] == b["hardware"]
    return _hardware_digest(a) == _hardware_digest(b)


def hardware_id(machine: Machine) -> str:
    """Return a digest of the machine without its software, 16 hex digits."""
    return str(machine.get("hardware") or _hardware_digest(machine))


def _hardware_digest(machine: Machine) -> str:
    return digest({name: machine.get(name) for name in HARDWARE})


def differences(a: Machine, b: Machine) -> list[FactDiff]:
    """Return the facts that differ; nested ones by their last name (`torch`, not `packages.torch`).

    Also compares other nested mappings, such as the settings that workers report.
    """
    flat_a, flat_b = _flatten(a), _flatten(b)
    names = dict.fromkeys((*flat_a, *flat_b))
    diffs = [FactDiff(name, flat_a.get(name, ""), flat_b.get(name, "")) for name in names]
    return [diff for diff in diffs if diff.a != diff.b]


def _flatten(values: Machine) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if key in IGNORED:
            continue
        if key == "environments":  # of rows that run in other environments
            for python, environment in value.items():
                facts = _flatten(environment)
                flat |= {f"{name} of {python}": fact for name, fact in facts.items()}
        elif isinstance(value, Mapping):
            flat |= _flatten(value)
        else:
            items = value if isinstance(value, (list, tuple)) else [value]
            flat[key] = ", ".join(str(item) for item in items if item is not None)
    return flat
