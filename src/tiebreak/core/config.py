"""Configurations are frozen dataclasses; this reads, checks, writes and hashes them."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from tiebreak.core.errors import UsageError, unknown

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON-ready values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """Build `kind` from plain values; unknown keys are refused."""
    return override(kind(), values)


def digest(config: Any) -> str:
    """A short hash of every field: two runs with the same hash had the same settings."""
    values = config if isinstance(config, Mapping) else to_dict(config)
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def names_of(kind: type, hint: type) -> list[str]:
    """The fields of a config whose type is `hint`."""
    return [name for name, found in typing.get_type_hints(kind).items() if found is hint]


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """`["key=value", …]` (from `--set`) -> a dictionary of strings."""
    out = {}
    for item in assignments:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise UsageError(f"--set takes key=value, got {item!r}")
        out[key.strip()] = value.strip()
    return out


def parse_sweeps(sweeps: Iterable[str]) -> dict[str, list[str]]:
    """`["key=1e-3,3e-4", …]` (from `--sweep`) -> the values of each key, as strings."""
    out: dict[str, list[str]] = {}
    for item in sweeps:
        key, sign, values = item.partition("=")
        found = [value.strip() for value in values.split(",")]
        if not sign or not key or not all(found):
            raise UsageError(f"--sweep takes key=value,value,…, got {item!r}")
        if (key := key.strip()) in out:
            raise UsageError(f"--sweep names {key} twice; put its values into one: {key}=…,…")
        out[key] = found
    return out


def override(config: C, values: Mapping[str, Any]) -> C:
    """A copy of `config` with `values` (strings are parsed) put in; checks names and types."""
    hints = typing.get_type_hints(type(config))
    changes = {}
    for key, value in values.items():
        if key not in hints:
            raise unknown("setting", key, hints)
        changes[key] = _coerce(key, value, hints[key])
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def _coerce(key: str, value: Any, hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value not in args:
            raise unknown(f"value for {key}", str(value), args)
        return value
    parsed = _parse(value) if isinstance(value, str) and hint is not str else value
    if origin is tuple:
        items = parsed if isinstance(parsed, (tuple, list)) else (parsed,)
        return tuple(_coerce(key, item, args[0]) for item in items)
    if hint is float and isinstance(parsed, int) and not isinstance(parsed, bool):
        parsed = float(parsed)
    if hint is int and isinstance(parsed, float) and parsed.is_integer():
        parsed = int(parsed)  # 5e5 steps
    if type(parsed) is not hint:
        raise UsageError(f"{key} takes {hint.__name__}, got {value!r}")
    return parsed


def _parse(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
