"""Read a suite file into a Plan; everything is checked before anything runs.

A suite has settings for all cells, [scales.NAME] (how much to measure) and [[races]]: a task, its
probes, and rows, one for each framework and mode. Any setting but the rows may be a list: there is
one race for each combination. [[published]] are tables of others, to be shown beside ours.
bench/example.toml is a commented example; suites/suite.schema.json describes the same for editors.
Errors name the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiebreak.bench.suite import published, toml_table
from tiebreak.bench.suite.cells import (
    DEFAULTS,
    SCALES,
    PlacedCell,
    differences,
    read_race,
    read_scales,
)
from tiebreak.bench.suite.plan import Plan, Scale
from tiebreak.bench.suite.scale import read_scale
from tiebreak.bench.suite.toml_table import Table
from tiebreak.core.errors import unknown

SUITES = Path(__file__).parents[1] / "suites"
SCHEMA_FILE = SUITES / "suite.schema.json"
EXAMPLE_FILE = Path(__file__).parents[1] / "example.toml"
SUITE_KEYS = ("description", *DEFAULTS, "scales", "races", "published")


def names() -> list[str]:
    """Return the names of the built-in suites."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def descriptions() -> dict[str, str]:
    """Return name -> description of the built-in suites."""
    return {name: _read(name).text("description") for name in names()}


def scales(suite: str) -> list[str]:
    """Return the scales that a suite has, from little to much measuring."""
    described = _read(suite).table("scales").values
    return [scale for scale in SCALES if scale in described]


def load(suite: str, scale: str | None, seed: int, device: str | None = None) -> Plan:
    """Read a built-in suite, or a .toml file, at a scale (None: quick).

    `device` replaces the devices that the suite names. Raises UsageError for anything in the file
    that is unknown or contradictory.
    """
    scale = scale or "quick"
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    table = _read(suite)
    table.check_keys("suite key", SUITE_KEYS)
    table.text("description")
    settings = _read_settings(table, scale)

    races = [
        (read_scales(race), list(read_race(table, race, scale)))
        for race in table.tables("races", "[[races]]")
    ]
    at_any_scale = [placed.cell for _, cells in races for placed in cells]
    if not at_any_scale:
        raise table.wrong("the suite names no race: add [[races]] with task, probes and rows")
    tables = published.read(table, at_any_scale)

    cells = [placed for scales, cells in races for placed in cells if scale in scales]
    if not cells:
        raise table.wrong(f"none of the suite's races belongs to the scale {scale!r}", "races")
    if device:
        cells = _move(cells, device)
    cells = _merge_ceilings(cells)
    _check_groups(cells)
    return Plan(
        suite=Path(suite).stem,
        scale=scale,
        seed=seed,
        settings=settings,
        cells=tuple(placed.cell for placed in cells),
        published=tables,
        differences=_differences(cells),
    )


def example() -> str:
    """Return the commented example as a file to start from, in which editors find the schema."""
    text = EXAMPLE_FILE.read_text(encoding="utf-8")
    return text.replace(f"#:schema suites/{SCHEMA_FILE.name}", f"#:schema {SCHEMA_FILE.as_uri()}")


def _read(suite: str) -> Table:
    if suite.endswith(".toml"):
        return toml_table.read(Path(suite), suite)
    if suite not in names():
        raise unknown("suite", suite, names(), "(or give the path of a .toml file)")
    return toml_table.read(SUITES / f"{suite}.toml", f"{suite}.toml")


def _read_settings(suite: Table, scale: str) -> Scale:
    """Return the settings of a scale. All scales are checked, whichever one is run."""
    tables = suite.table("scales")
    tables.check_keys("scale", SCALES)
    settings = {name: read_scale(tables.table(name)) for name in tables.values}
    if scale not in settings:
        hint = f"it has: {', '.join(settings)}" if settings else f"add [scales.{scale}]"
        raise suite.wrong(f"the suite has no scale {scale!r} ({hint})", "scales")
    return settings[scale]


def _differences(cells: Sequence[PlacedCell]) -> tuple[dict[str, str], ...]:
    """Return in what contestants are known to differ from our algorithms, each once."""
    texts = {
        (placed.cell.label, placed.cell.algorithm, text): None
        for placed in cells
        if (text := differences(placed.table, placed.cell))
    }
    return tuple(
        {"label": label, "algorithm": algorithm, "text": text} for label, algorithm, text in texts
    )


def _move(cells: Sequence[PlacedCell], device: str) -> list[PlacedCell]:
    """Replace the device of all cells; cells that were equal but for the device become one."""
    moved = [placed._replace(cell=replace(placed.cell, device=device)) for placed in cells]
    return list({placed.cell.id: placed for placed in moved}.values())


def _merge_ceilings(cells: Sequence[PlacedCell]) -> list[PlacedCell]:
    """Move ceilings to the end; one that several charts show is measured once."""
    raced = [placed for placed in cells if not placed.cell.ceiling_of]
    merged: dict[str, PlacedCell] = {}
    for placed in cells:
        if placed.cell.ceiling_of:
            key = replace(placed.cell, ceiling_of=()).id
            earlier = merged.get(key, placed).cell.ceiling_of
            groups = tuple(dict.fromkeys((*earlier, *placed.cell.ceiling_of)))
            merged[key] = placed._replace(cell=replace(placed.cell, ceiling_of=groups))
    return [*raced, *merged.values()]


def _check_groups(cells: Sequence[PlacedCell]) -> None:
    """Refuse a cell that occurs twice, and a group whose cells differ in the race's settings."""
    ids: set[str] = set()
    configs: dict[str, Any] = {}
    for table, cell, race_config in cells:
        if cell.id in ids:
            raise table.wrong(
                f"the suite names a cell twice ({cell.group}, {cell.label}): give a row a label"
            )
        ids.add(cell.id)
        alone = cell.id if cell.ceiling_of else ""
        settings = (race_config, cell.precision_varies, alone)
        if configs.setdefault(cell.group, settings) != settings:
            raise table.wrong(
                f"an earlier race is {cell.group!r} too, with other settings: give a race a name"
            )
