"""Reads a suite file into a Plan. Everything is checked before a visit runs.

A suite has settings for all cells, [scales.NAME] (how much to measure) and [[races]]: a task, its
probes, and rows, one for each framework and mode. Any setting but the rows may be a list: there is
one race for each combination. bench/example.toml is a commented example, suites/suite.schema.json
the same for editors. What is wrong is refused with the line that it is in.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.bench import suite_scale, suite_table
from tiebreak.bench.plan import Cell, Plan, Scale
from tiebreak.bench.suite_table import Table
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.types import EnvSpec

SUITES = Path(__file__).parent / "suites"
SCHEMA_FILE = SUITES / "suite.schema.json"
EXAMPLE_FILE = Path(__file__).parent / "example.toml"
SCALES = ("smoke", "quick", "full")
PROBES = ("forward", "env", "interact", "update", "train", "rebuild")
SIZES = {"s": (64, 64), "m": (256,) * 3, "l": (1024,) * 6}
"""Hidden layers by size, for policy and value alike."""

ALONE = {"host": "numpy", "device": "jax"}
"""What stands in a cell's `framework` where an environment is measured alone, by engine kind."""

COMMON = {"algorithm": "ppo", "precision": "float32", "size": "s", "device": "cpu", "cache": "warm"}
"""Settings of a suite or of a race, and what they are where neither says."""

AXES = ("task", "num_envs", *COMMON)
"""What may be a list in a race."""

SUITE_KEYS = ("description", *COMMON, "scales", "races")
RACE_KEYS = (*AXES, "probes", "rows", "config", *SCALES)
ROW_KEYS = ("framework", "mode", "loop", "label")
LOOPS = ("host", "fused")


def names() -> list[str]:
    """The built-in suites."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def descriptions() -> dict[str, str]:
    """Built-in suite -> what it says that it is."""
    return {name: _read(name).text("description") for name in names()}


def load(suite: str, scale: str | None, seed: int) -> Plan:
    """Read a built-in suite, or a .toml file, at a scale (None: quick).

    Raises UsageError for whatever is unknown or contradictory in it.
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
    races = table.tables("races", "[[races]]")
    found = [cell for race in races for cell in _race(table, race, scale)]
    if not found:
        raise table.wrong("the suite names no race: add [[races]] with task, probes and rows")
    _check_groups(found)
    cells = tuple(cell for _, cell in found)
    return Plan(Path(suite).stem, scale, seed, settings[scale], cells)


def example() -> str:
    """The commented example, as a file to begin one's own with: editors find the schema here."""
    text = EXAMPLE_FILE.read_text(encoding="utf-8")
    return text.replace(f"#:schema suites/{SCHEMA_FILE.name}", f"#:schema {SCHEMA_FILE.as_uri()}")


def _read(suite: str) -> Table:
    if suite.endswith(".toml"):
        return suite_table.read(Path(suite), suite)
    if suite not in names():
        raise unknown("suite", suite, names(), "(or give the path of a .toml file)")
    return suite_table.read(SUITES / f"{suite}.toml", f"{suite}.toml")


def _scales(suite: Table) -> dict[str, Scale]:
    """Every scale that the suite has, so that a mistake shows at whichever one is run."""
    scales = suite.table("scales")
    scales.check_keys("scale", SCALES)
    return {name: suite_scale.read_scale(scales.table(name)) for name in scales.values}


def _check_groups(found: list[tuple[Table, Cell]]) -> None:
    """Every cell once, and in a group nothing that its name does not say."""
    ids: set[str] = set()
    configs: dict[str, Any] = {}
    for place, cell in found:
        if cell.id in ids:
            raise place.wrong(
                f"the suite names a cell twice ({cell.group}, {cell.label}): give a row a label"
            )
        ids.add(cell.id)
        if configs.setdefault(cell.group, cell.config) != cell.config:
            raise place.wrong(f"an earlier race is {cell.group!r} too, with other settings")


def _race(suite: Table, race: Table, scale: str) -> Iterator[tuple[Table, Cell]]:
    """The cells of a race, each with the table that it was written in."""
    race.check_keys("race key", RACE_KEYS)
    for key in ("task", "probes", "rows"):
        if not race.values.get(key):
            raise race.wrong(f"a race needs {key}", key)
    common = {key: suite.each(key, [usual]) for key, usual in COMMON.items()}
    axes = {key: race.each(key, common.get(key, [1])) for key in AXES}
    for key, values in axes.items():
        for index, value in enumerate(values):
            with (race if key in race.values else suite).at(key, index):
                _check_setting(key, value)
    probes = race.each("probes", [])
    for index, probe in enumerate(probes):
        if probe not in PROBES:
            raise race.wrong(unknown("probe", str(probe), PROBES), "probes", index)
    for values in itertools.product(*axes.values()):
        shared = dict(zip(axes, values, strict=True))
        shared["config"] = _config(race, scale, shared)
        yield from _cells(race, probes, shared)


def _cells(
    race: Table, probes: list[str], shared: Mapping[str, Any]
) -> Iterator[tuple[Table, Cell]]:
    """One combination of a race's settings: its rows, at each probe."""
    engine = _engine(shared["task"])
    rows = race.tables("rows", '[{ framework = "torch" }]')
    framed = [(row, _row(row, engine)) for row in rows]
    for probe in probes:
        if probe == "env":  # the same for every framework, so it is measured once
            alone = {"framework": ALONE[engine.kind], "mode": "", "loop": engine.kind}
            yield race, Cell(**{**shared, **alone, "probe": probe, "label": "environment alone"})
        else:
            yield from ((row, Cell(**shared, **own, probe=probe)) for row, own in framed)


def _check_setting(key: str, value: Any) -> None:
    """Refuse a value that a setting cannot have."""
    valid = {
        "algorithm": registry.ALGORITHMS,
        "precision": registry.PRECISIONS,
        "size": SIZES,
        "cache": ("warm", "cold"),
    }
    if key == "num_envs":
        if type(value) is not int or value < 1:
            raise UsageError(f"num_envs takes a whole number above 0, got {value!r}")
    elif not isinstance(value, str):
        raise UsageError(f"{key} takes a string, got {value!r}")
    elif key == "task":
        _engine(value)
    elif key in valid and value not in valid[key]:
        raise unknown(key, value, valid[key])


def _engine(task: str) -> registry.Engine:
    engine, slash, name = task.partition("/")
    if not slash or not name:
        raise UsageError(f"a task is written engine/name, e.g. gymnax/CartPole-v1; got {task!r}")
    if engine not in registry.ENGINES:
        raise unknown("engine", engine, registry.ENGINES)
    return registry.ENGINES[engine]


def _config(race: Table, scale: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithm's settings in a race, checked by name and type, and against each other."""
    config = registry.config_module(shared["algorithm"]).Config()
    placed = {}
    for table in (race.table("config"), race.table(scale)):
        for key, value in table.values.items():
            with table.at(key):
                _check_place(key)
                override(config, {key: value})
            placed[key] = value
    own = {"num_envs": shared["num_envs"], "hidden_sizes": SIZES[shared["size"]]}
    with race.at("config"):
        _check_config(shared["algorithm"], {**own, **placed})
    return placed


def _check_place(key: str) -> None:
    for name, where in (("num_envs", "the race's num_envs"), ("hidden_sizes", "size")):
        if key == name:
            raise UsageError(f"{key} is set by {where}, not in the race's config")


def _check_config(algorithm: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that contradict one another whatever the task's actions are.

    Which kind of actions it has, and so which reference holds, is known in the worker only.
    """
    discrete = EnvSpec.make(observation_shape=(1,), num_actions=2)
    continuous = EnvSpec.make(observation_shape=(1,), action_low=(-1.0,), action_high=(1.0,))
    reasons = []
    for spec in (discrete, continuous):
        try:
            reference = registry.reference_config(algorithm, spec)
            registry.config_module(algorithm).check(override(reference, settings))
        except UsageError as error:
            reasons.append(str(error))
    if len(reasons) == 2:
        raise UsageError(" or, if actions are continuous, ".join(dict.fromkeys(reasons)))


def _row(row: Table, engine: registry.Engine) -> dict[str, Any]:
    """A row's framework, mode, loop and label; each has the best of its framework as default."""
    for key in (key for key in AXES if key in row.values):
        raise row.wrong(f"{key} is set for a race: its rows are compared with one another", key)
    row.check_keys("row key", ROW_KEYS)
    framework = row.text("framework")
    with row.at("framework"):
        runtime = registry.framework(framework).runtime
    with row.at("mode"):
        mode = registry.mode(framework, row.text("mode") if "mode" in row.values else None)
    on_device = runtime == "jax" and engine.kind == "device"
    loop = row.text("loop", "fused" if on_device and mode != "eager" else "host")
    if loop not in LOOPS:
        raise row.wrong(unknown("loop", loop, LOOPS), "loop")
    if loop == "fused" and not on_device:
        raise row.wrong(
            f"loop 'fused' needs linen, nnx or equinox on a device engine, got {framework} on a "
            f"{engine.kind} engine; use loop = 'host'",
            "loop",
        )
    bridged = engine.kind == "device" and runtime != "jax"
    label = row.text("label", f"{framework} {mode}" + (", bridge" if bridged else ""))
    return {"framework": framework, "mode": mode, "loop": loop, "label": label}
