"""Read [[published]] of a suite file: tables published by others, to be shown beside ours.

Each value names the cells that it belongs to. The tables are written into suite.json and shown
beside the results; nothing is computed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiebreak import registry
from tiebreak.bench.suite.plan import Cell
from tiebreak.bench.suite.toml_table import Table
from tiebreak.core.errors import unknown

UNITS = ("s per 1000 updates", "ms per call", "calls per s", "times as fast")
"""Units of published values; our results are converted to them (report/published.py)."""

PLACES = (
    "algorithm", "framework", "mode", "precision", "task", "num_envs", "size", "probe", "race",
    "label",
)  # fmt: skip
"""Properties by which a value names its cells; each one value, or a list of several."""

TABLE_KEYS = ("source", "machine", "unit", "note", "values")
VALUE_KEYS = ("what", "value", "plus_minus", "over", *PLACES)


def read(suite: Table, cells: Sequence[Cell]) -> tuple[dict[str, Any], ...]:
    """Return the published tables as JSON; `cells` are those of the suite at any scale."""
    tables = suite.tables("published", "[[published]]")
    return tuple(_table(table, [cell.to_json() for cell in cells]) for table in tables)


def belongs(cell: Mapping[str, Any], where: Mapping[str, Sequence[Any]]) -> bool:
    """Return True if a value is to be shown beside a cell."""
    return all(cell.get(key, "") in values for key, values in where.items())


def _table(table: Table, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    table.check_keys("key of a published table", TABLE_KEYS)
    for key in ("source", "machine"):
        if not table.text(key):
            raise table.wrong(f"a published table needs {key}: whose it is, and of what hardware")
    unit = table.text("unit", UNITS[0])
    if unit not in UNITS:
        raise table.wrong(unknown("unit", unit, UNITS), "unit")
    values = table.tables("values", '[{ what = "TD3, JAX", value = 2.35, framework = "linen" }]')
    return {
        "source": table.text("source"),
        "machine": table.text("machine"),
        "unit": unit,
        "note": table.text("note"),
        "values": [_value(value, unit, cells) for value in values],
    }


def _value(value: Table, unit: str, cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    value.check_keys("key of a published value", VALUE_KEYS)
    if not value.text("what"):
        raise value.wrong("a published value needs what: the name that its source gives it")
    for key in ("value", "plus_minus"):
        _check_number(value, key)
    over = value.text("over")
    if bool(over) != (unit == "times as fast"):
        raise value.wrong("over, a framework, goes with unit 'times as fast', and only with it")
    if over:
        with value.at("over"):
            registry.framework(over)
    where = {key: value.each(key, []) for key in PLACES if key in value.values}
    if not any(belongs(cell, where) for cell in cells):
        raise value.wrong(f"the suite has no cell with {_describe(where)}")
    number = {key: value.values.get(key) for key in ("value", "plus_minus")}
    return {"what": value.text("what"), **number, "over": over, "where": where}


def _check_number(value: Table, key: str) -> None:
    number = value.values.get(key, 1.0 if key == "plus_minus" else None)
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not 0 < number < float("inf"):
        raise value.wrong(f"{key} takes a number above 0, got {number!r}", key)


def _describe(where: Mapping[str, Sequence[Any]]) -> str:
    """Return e.g. `framework linen or nnx, probe update`."""
    properties = [f"{key} {' or '.join(map(str, values))}" for key, values in where.items()]
    return ", ".join(properties) or "anything"
