"""[scales.NAME] of a suite file -> Scale: how much of a suite is run, every number checked."""

from __future__ import annotations

import typing
from dataclasses import fields
from typing import Any

from tiebreak.bench.suite.plan import Scale
from tiebreak.bench.suite.toml_table import Table
from tiebreak.bench.worker.sampling import Effort
from tiebreak.core.errors import UsageError


def scale_fields() -> dict[str, Any]:
    """Key of a [scales.NAME] table -> its type: the fields of Scale and of its Effort."""
    hints = {**typing.get_type_hints(Scale), **typing.get_type_hints(Effort)}
    return {key: hint for key, hint in hints.items() if key != "effort"}


def read_scale(table: Table) -> Scale:
    """The settings that a [scales.NAME] table stands for."""
    kinds = scale_fields()
    table.check_keys("scale key", kinds)
    for key, value in table.values.items():
        with table.at(key):
            _check_amount(key, value, kinds[key])
    values: dict[str, Any] = dict(table.values)
    if "stages" in values:
        if "blocks" in values:
            raise table.wrong("blocks is the last of the stages: leave it out", "blocks")
        values["stages"] = tuple(values["stages"])
        values["blocks"] = values["stages"][-1]
    inner = {f.name: values.pop(f.name) for f in fields(Effort) if f.name in values}
    return Scale(**values, effort=Effort(**inner))


def _check_amount(key: str, value: Any, kind: Any) -> None:
    """Refuse what is not a value of this type of field, or is none that makes sense."""
    least = 0 if key == "memory_calls" else 1
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{key} takes true or false, got {value!r}")
    elif kind is int:
        if type(value) is not int or value < least:
            raise UsageError(f"{key} takes a whole number, {least} or more, got {value!r}")
    elif typing.get_origin(kind) is tuple:
        if not _are_stages(value):
            raise UsageError(
                f"{key} takes numbers of blocks that rise and are even (odd blocks mirror even "
                f"ones), e.g. [10, 20, 30, 50]; got {value!r}"
            )
    elif not number or not 0 < value < float("inf"):
        raise UsageError(f"{key} takes a number above 0, got {value!r}")


def _are_stages(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    whole = all(type(n) is int and n > 0 and n % 2 == 0 for n in value)
    return whole and value == sorted(set(value))
