"""Read [scales.NAME] of a suite file: how much is measured, with every number checked."""

from __future__ import annotations

import typing
from dataclasses import fields
from typing import Any

from tiebreak.bench.probe_table import PROBES
from tiebreak.bench.suite.plan import Effort, Scale
from tiebreak.bench.suite.toml_table import Table
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.text import quoted


def scale_fields() -> dict[str, Any]:
    """Return key -> type of a [scales.NAME] table: the fields of Scale and of its Effort."""
    types = {**typing.get_type_hints(Scale), **typing.get_type_hints(Effort)}
    del types["effort"]
    return types


MOST = 100_000
"""Largest whole number of a scale: blocks and rounds are listed one by one, and a run of one
second each would take a day."""


def least(key: str) -> int:
    """Return the least value of a whole number of a scale."""
    return 0 if key in ("memory_calls", "rounds") else 1


def read_scale(table: Table) -> Scale:
    """Return the settings of a [scales.NAME] table."""
    types = scale_fields()
    table.check_keys("scale key", types)
    for key, value in table.values.items():
        with table.at(key):
            _check_value(key, value, types[key])

    values: dict[str, Any] = dict(table.values)
    if "stages" in values:
        if "blocks" in values:
            raise table.wrong("blocks is the last of the stages: leave it out", "blocks")
        if "first" in values:
            raise table.wrong("first goes with blocks, not with stages", "first")
        values["stages"] = tuple(values["stages"])
        values["blocks"] = values["stages"][-1]
    values["first"] = tuple(values.get("first", ()))
    effort = {f.name: values.pop(f.name) for f in fields(Effort) if f.name in values}
    return Scale(**values, effort=Effort(**effort))


def _check_value(key: str, value: Any, kind: Any) -> None:
    """Refuse a value that does not have the type of its field, or makes no sense."""
    if kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{key} takes true or false, got {quoted(value)}")
    elif key == "first":
        _check_probes(value)
    elif kind is int:
        if type(value) is not int or value < least(key):
            raise UsageError(
                f"{key} takes a whole number, {least(key)} or more, got {quoted(value)}"
            )
        if value > MOST:
            raise UsageError(f"{key} is {quoted(value)}; it must be at most {MOST}")
        if key == "rounds" and value % 2:
            raise UsageError(f"rounds takes an even number, got {quoted(value)}")
    elif typing.get_origin(kind) is tuple:
        if not _are_stages(value) or value[-1] > MOST:
            raise UsageError(
                f"{key} takes numbers of blocks that rise and are even (odd blocks mirror even "
                f"ones), e.g. [10, 20, 30, 50]; got {quoted(value)}"
            )
    else:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 < value < float("inf"):
            raise UsageError(f"{key} takes a number above 0, got {quoted(value)}")


def _check_probes(value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise UsageError(f'first takes a list of probes, e.g. ["train"]; got {quoted(value)}')
    for name in value:
        if not isinstance(name, str) or name not in PROBES:
            raise unknown("probe", str(name), PROBES)


def _are_stages(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    are_even = all(type(n) is int and n > 0 and n % 2 == 0 for n in value)
    return are_even and value == sorted(set(value))
