"""Machine records of two runs: whether the hardware is the same, and which facts differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tiebreak.core.config import digest

Machine = Mapping[str, Any]

HARDWARE = ("cpu", "cores", "memory_bytes", "kernel", "gpus", "host_hash")
"""What makes the hardware, where a record (schema 1) does not say so itself."""

NO_DIFFERENCE = ("hardware", "load_average", "canary")
"""What differs between any two runs, or repeats what other facts say."""


class Fact(NamedTuple):
    """One thing in which two runs differ, as text; empty where one of them lacks it."""

    name: str
    a: str
    b: str


def same_hardware(a: Machine, b: Machine) -> bool:
    """Whether two runs were made on the same machine, whatever was installed on it."""
    if not a or not b:
        return False
    if a.get("hardware") and b.get("hardware"):
        return a["hardware"] == b["hardware"]
    return _hardware(a) == _hardware(b)


def _hardware(machine: Machine) -> str:
    return digest({name: machine.get(name) for name in HARDWARE})


def differences(a: Machine, b: Machine) -> list[Fact]:
    """The facts that differ, nested ones by their own name (`torch`, not `packages.torch`)."""
    one, other = _flat(a), _flat(b)
    names = dict.fromkeys((*one, *other))
    pairs = [Fact(name, one.get(name, ""), other.get(name, "")) for name in names]
    return [fact for fact in pairs if fact.a != fact.b]


def _flat(values: Machine) -> dict[str, str]:
    out: dict[str, str] = {}
    for key, value in values.items():
        if key in NO_DIFFERENCE:
            continue
        if isinstance(value, Mapping):
            out |= _flat(value)
        else:
            listed = value if isinstance(value, (list, tuple)) else [value]
            out[key] = ", ".join(str(v) for v in listed if v is not None)
    return out
