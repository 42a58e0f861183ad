"""Reads a suite file into a Plan. Everything is checked before a visit runs.

A suite has settings for all cells, [scales.NAME] (how much to measure) and [[races]]: a task, its
probes, and rows, one for each framework and mode. Any setting but the rows may be a list: there is
one race for each combination. [[published]] are tables of others, to be shown beside ours.
bench/example.toml is a commented example, suites/suite.schema.json the same for editors. What is
wrong is refused with the line that it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiebreak.bench.suite import cells, published, scale, toml_table
from tiebreak.bench.suite.cells import COMMON, SCALES, Placed
from tiebreak.bench.suite.plan import Plan, Scale
from tiebreak.bench.suite.toml_table import Table
from tiebreak.core.errors import unknown

SUITES = Path(__file__).parents[1] / "suites"
SCHEMA_FILE = SUITES / "suite.schema.json"
EXAMPLE_FILE = Path(__file__).parents[1] / "example.toml"
SUITE_KEYS = ("description", *COMMON, "scales", "races", "published")


def names() -> list[str]:
    """The built-in suites."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def descriptions() -> dict[str, str]:
    """Built-in suite -> what it says that it is."""
    return {name: _read(name).text("description") for name in names()}


def load(suite: str, scale: str | None, seed: int, device: str | None = None) -> Plan:
    """Read a built-in suite, or a .toml file, at a scale (None: quick).

    `device` is measured on whatever devices the suite names. Raises UsageError for whatever is
    unknown or contradictory in it.
    """
    scale = scale or "quick"
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    table = _read(suite)
    table.check_keys("suite key", SUITE_KEYS)
    table.text("description")
    settings = _scales(table)
    if scale not in settings:
        there = f"it has: {', '.join(settings)}" if settings else f"add [scales.{scale}]"
        raise table.wrong(f"the suite has no scale {scale!r} ({there})", "scales")
    races = [
        (cells.scales(race), list(cells.read_race(table, race, scale)))
        for race in table.tables("races", "[[races]]")
    ]
    everywhere = [placed.cell for _, found in races for placed in found]
    if not everywhere:
        raise table.wrong("the suite names no race: add [[races]] with task, probes and rows")
    elsewhere = published.read(table, everywhere)
    found = [placed for where, found in races for placed in found if scale in where]
    if not found:
        raise table.wrong(f"none of the suite's races belongs to the scale {scale!r}", "races")
    if device:
        moved = [p._replace(cell=replace(p.cell, device=device)) for p in found]
        found = list({p.cell.id: p for p in moved}.values())  # it may have been on several
    _check_groups(found)
    planned = tuple(placed.cell for placed in found)
    return Plan(Path(suite).stem, scale, seed, settings[scale], planned, elsewhere)


def example() -> str:
    """The commented example, as a file to begin one's own with: editors find the schema here."""
    text = EXAMPLE_FILE.read_text(encoding="utf-8")
    return text.replace(f"#:schema suites/{SCHEMA_FILE.name}", f"#:schema {SCHEMA_FILE.as_uri()}")


def _read(suite: str) -> Table:
    if suite.endswith(".toml"):
        return toml_table.read(Path(suite), suite)
    if suite not in names():
        raise unknown("suite", suite, names(), "(or give the path of a .toml file)")
    return toml_table.read(SUITES / f"{suite}.toml", f"{suite}.toml")


def _scales(suite: Table) -> dict[str, Scale]:
    """Every scale that the suite has, so that a mistake shows at whichever one is run."""
    scales = suite.table("scales")
    scales.check_keys("scale", SCALES)
    return {name: scale.read_scale(scales.table(name)) for name in scales.values}


def _check_groups(found: Sequence[Placed]) -> None:
    """Every cell once, and in a group nothing that neither its name nor its rows say."""
    ids: set[str] = set()
    configs: dict[str, Any] = {}
    for place, cell, config in found:
        if cell.id in ids:
            raise place.wrong(
                f"the suite names a cell twice ({cell.group}, {cell.label}): give a row a label"
            )
        ids.add(cell.id)
        if configs.setdefault(cell.group, config) != config:
            raise place.wrong(
                f"an earlier race is {cell.group!r} too, with other settings: give a race a name"
            )
