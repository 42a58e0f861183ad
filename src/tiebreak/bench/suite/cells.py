"""Expand [[races]] of a suite file into cells, with every setting checked at its place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.bench.probe_table import ALIASES, PROBES
from tiebreak.bench.suite.plan import Cell
from tiebreak.bench.suite.toml_table import Table
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.networks import NETWORKS, is_own
from tiebreak.core.text import quoted
from tiebreak.core.types import EnvSpec
from tiebreak.envs.task import Task
from tiebreak.peers.table import PEERS

SCALES = ("smoke", "quick", "survey", "full")
"""From little to much measuring; a suite has those that it describes."""

PROBE_NAMES = (*PROBES, *ALIASES)
"""Names that a suite file can use for probes."""

SIZES: dict[str, tuple[int, ...] | None] = {
    "s": (64, 64), "m": (256,) * 3, "l": (1024,) * 6, "reference": None,
}  # fmt: skip
"""Size -> hidden layers of policy and value; None: those of the algorithm's reference."""

CACHES = ("warm", "cold")
LOOPS = ("host", "fused")

ENVIRONMENT_ALONE = {"host": "numpy", "device": "jax"}
"""Kind of engine -> `framework` of a cell that measures an environment alone."""

CONTESTANT = "contestant"
"""`framework` of a cell that measures another library's implementation."""

DEFAULTS = {
    "algorithm": "ppo",
    "precision": "float32",
    "size": "s",
    "device": "cpu",
    "cache": "warm",
}
"""Settings of a suite or of a race -> their values where neither sets them."""

AXES = ("task", "num_envs", "agents", *DEFAULTS)
"""Settings of a race that may be lists: there is one race for each combination."""

RACE_KEYS = ("name", *AXES, "scales", "probes", "rows", "ceilings", "config", *SCALES)
ROW_KEYS = (
    "framework", "mode", "loop", "precision", "label", "config", "peer", "contestant", "packages",
    "differences", "python", "threads",
)  # fmt: skip

CEILING_KEYS = ("task", "num_envs", "probes", *ROW_KEYS)

ROWS = '[{ framework = "torch" }]'
CEILINGS = '[{ task = "brax/halfcheetah", framework = "nnx" }]'
"""Rows and ceilings of a race as examples for errors."""

OF_CONTESTANTS = ("packages", "differences")
"""Keys of rows that name a contestant of a user's own."""

VENV_FOLDERS = ("bin", ".venv", "venv")
"""Folders of an interpreter that do not tell environments apart."""


class PlacedCell(NamedTuple):
    """A cell, with what error messages and the check of groups need."""

    table: Table
    """Where the cell comes from: its row, or its race."""
    cell: Cell
    race_config: Mapping[str, Any]
    """The race's settings of the algorithm, which the whole group has to share."""


class Row(NamedTuple):
    """A parsed row of a race."""

    table: Table
    fields: dict[str, Any]
    """Fields of its cells: framework, mode, loop, precision, label, config, python, threads, those
    of a peer or a contestant."""


def hidden_sizes(size: str) -> dict[str, Any]:
    """Return the setting of the algorithm that a size stands for; empty for `reference`."""
    widths = SIZES[size]
    return {} if widths is None else {"hidden_sizes": widths}


MOST_COMBINATIONS = 10_000
"""Most combinations of a race's settings: each is a group with at least two cells."""


def read_scales(race: Table) -> list[str]:
    """Return the scales at which a race is run; all, unless it names some."""
    scales = race.each("scales", list(SCALES))
    for index, scale in enumerate(scales):
        if scale not in SCALES:
            raise race.wrong(unknown("scale", str(scale), SCALES), "scales", index)
    return scales


def read_race(suite: Table, race: Table, scale: str) -> Iterator[PlacedCell]:
    """Yield the cells of a race, with its settings at a scale."""
    race.check_keys("race key", RACE_KEYS)
    for key in ("task", "probes", "rows"):
        if not race.values.get(key):
            raise race.wrong(f"a race needs {key}", key)

    defaults = {key: suite.each(key, [default]) for key, default in DEFAULTS.items()}
    axes = {key: race.each(key, defaults.get(key, [1])) for key in AXES}
    _refuse_many(race, axes)
    for key, values in axes.items():
        table = race if key in race.values else suite
        for index, value in enumerate(values):
            with table.at(key, index):
                _check_setting(key, value)
    table = race if "precision" in race.values else suite
    for algorithm, precision in itertools.product(axes["algorithm"], axes["precision"]):
        with table.at("precision"):
            registry.require_precision(algorithm, precision)
    if len(axes["precision"]) > 1:
        _refuse_own_precisions(race)

    probes = _read_probes(race)
    name = race.text("name")
    for values in itertools.product(*axes.values()):
        settings = {**dict(zip(axes, values, strict=True)), "race": name}
        yield from _expand(race, probes, settings, scale)


def _refuse_many(race: Table, axes: Mapping[str, list[Any]]) -> None:
    """Raise UsageError for more combinations of settings than can be listed, let alone run."""
    combinations = math.prod(len(values) for values in axes.values())
    if combinations > MOST_COMBINATIONS:
        longest = max(axes, key=lambda key: len(axes[key]))
        raise race.wrong(
            f"the race has {combinations} combinations of settings, and at most "
            f"{MOST_COMBINATIONS} are possible: the longest list is {longest}",
            longest,
        )


def _refuse_own_precisions(race: Table) -> None:
    """Refuse rows with a precision of their own where there is a race for each precision."""
    for row in race.tables("rows", ROWS):
        if "precision" in row.values:
            raise row.wrong(
                "precision is a list of the race's: leave it out there, or in its rows", "precision"
            )


def _read_probes(race: Table) -> list[str]:
    """Return the probes of a race, with aliases replaced by what they stand for."""
    probes: dict[str, None] = {}
    for index, name in enumerate(race.each("probes", [])):
        if name not in PROBE_NAMES:
            raise race.wrong(unknown("probe", str(name), PROBE_NAMES), "probes", index)
        probes.update(dict.fromkeys(ALIASES.get(name, (name,))))
    for name in probes:
        if PROBES[name].once and len(probes) > 1:
            raise race.wrong(
                f"{name} is timed from the start of a process: give it a race of its own", "probes"
            )
    return list(probes)


def _expand(
    race: Table, probes: Sequence[str], settings: Mapping[str, Any], scale: str
) -> Iterator[PlacedCell]:
    """Yield the cells of one combination of a race's settings: each row at each probe."""
    race_tables = [(race, "config"), (race, scale)]
    race_config = _read_config(race_tables, settings)
    engine = Task.parse(settings["task"]).row
    rows = []
    for table in race.tables("rows", ROWS):
        fields = {**_read_row(table, engine), "precision": _read_precision(table, settings)}
        fields["config"] = _read_config([*race_tables, (table, "config")], settings)
        rows.append(Row(table, fields))
        _check_peer(rows[-1], settings)
        _check_implementation(rows[-1], settings)
    if len({row.fields["precision"] for row in rows}) > 1:
        settings = {**settings, "precision_varies": True}
        rows = [row._replace(fields=_name_precision(row.fields)) for row in rows]

    for probe in probes:
        _check_probe(race, probe, settings["agents"], rows)
        yield from _at_probe(race, probe, settings, rows, race_config)
    for table in race.tables("ceilings", CEILINGS):
        yield from _expand_ceiling(table, probes, settings, race_tables)


def _at_probe(
    table: Table,
    probe: str,
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    race_config: Mapping[str, Any],
) -> Iterator[PlacedCell]:
    """Yield the cells of all rows at a probe, or the environment alone."""
    if not PROBES[probe].once_per_engine:
        for row in rows:
            cell = Cell(**{**settings, **row.fields}, probe=probe)
            yield PlacedCell(row.table, cell, race_config)
        return

    kind = Task.parse(settings["task"]).row.kind
    cell = Cell(
        **settings,
        framework=ENVIRONMENT_ALONE[kind],
        mode="",
        loop=kind,
        label="environment alone",
        probe=probe,
        config=dict(race_config),
    )
    yield PlacedCell(table, cell, race_config)


def _expand_ceiling(
    table: Table,
    race_probes: Sequence[str],
    settings: Mapping[str, Any],
    race_tables: Sequence[tuple[Table, str]],
) -> Iterator[PlacedCell]:
    """Yield the cells of a ceiling: a row of another engine, drawn in the charts of the race.

    settings: those of one combination of the race, which it has too where it does not set its own.
    """
    table.check_keys("ceiling key", CEILING_KEYS)
    if "task" not in table.values:
        raise table.wrong(f"a ceiling needs task, and what a row has: {CEILINGS}")
    own = {key: table.values[key] for key in ("task", "num_envs") if key in table.values}
    for key, value in own.items():
        with table.at(key):
            _check_setting(key, value)
    engine, raced = (task.partition("/")[0] for task in (own["task"], settings["task"]))
    if engine == raced:
        raise table.wrong(
            f"a ceiling is of another engine than the race's {settings['task']}, got {own['task']}",
            "task",
        )

    ceiling = {**settings, **own, "precision_varies": False}
    fields = _read_row(table, Task.parse(own["task"]).row, CEILING_KEYS)
    fields["precision"] = _read_precision(table, settings)
    fields["config"] = _read_config([*race_tables, (table, "config")], ceiling)
    rows = [Row(table, fields)]
    _check_implementation(rows[0], ceiling)
    probes = _read_probes(table) if "probes" in table.values else race_probes
    for probe in probes:
        if probe not in race_probes:
            raise table.wrong(f"its race does not measure the probe {probe}", "probes")
        _check_probe(table, probe, settings["agents"], rows)
        drawn_in = Cell(**settings, framework="", mode="", loop="", probe=probe).group
        ceiling["ceiling_of"] = (drawn_in,)
        yield from _at_probe(table, probe, ceiling, rows, fields["config"])


def _read_precision(row: Table, settings: Mapping[str, Any]) -> str:
    """Return the precision of a row: its own, or the race's."""
    precision = row.text("precision", settings["precision"])
    if "precision" in row.values:
        with row.at("precision"):
            registry.require_precision(settings["algorithm"], precision)
    return precision


def _name_precision(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a row with its precision in the label."""
    label, precision = fields["label"], fields["precision"]
    return {**fields, "label": label if precision in label else f"{label}, {precision}"}


def _check_probe(race: Table, name: str, agents: int, rows: Sequence[Row]) -> None:
    """Refuse a probe for settings or rows that it cannot measure."""
    probe = PROBES[name]
    if agents != 1 and not probe.many_agents:
        many = ", ".join(name for name, row in PROBES.items() if row.many_agents)
        raise race.wrong(f"agents is for the probe {many}, not for {name}", "agents")
    if probe.once_per_engine:
        return
    for row in rows:
        if "contestant" in row.fields and not probe.contestants:
            valid = ", ".join(name for name, row in PROBES.items() if row.contestants)
            raise row.table.wrong(
                f"a contestant cannot be measured by the probe {name} (valid: {valid})",
                "contestant",
            )
        if row.fields["loop"] not in probe.loops:
            raise row.table.wrong(
                f"the probe {name} needs loop 'fused': {_fused_frameworks()}, compiled, on a "
                f"device engine; got {row.fields['label']}"
            )


def _check_setting(key: str, value: Any) -> None:
    """Refuse an invalid value of a setting."""
    valid: dict[str, Sequence[str] | Mapping[str, Any]] = {
        "algorithm": registry.ALGORITHMS,
        "precision": registry.PRECISIONS,
        "size": SIZES,
        "cache": CACHES,
    }
    if key in ("num_envs", "agents"):
        if type(value) is not int or value < 1:
            raise UsageError(f"{key} takes a whole number above 0, got {value!r}")
    elif not isinstance(value, str):
        raise UsageError(f"{key} takes a string, got {value!r}")
    elif key == "task":
        Task.parse(value)
    elif key in valid and value not in valid[key]:
        raise unknown(key, value, valid[key])


def _read_config(tables: Sequence[tuple[Table, str]], settings: Mapping[str, Any]) -> dict:
    """Merge the algorithm's settings from tables, of which later ones take precedence.

    Each is checked by name and type, and all of them against one another.
    """
    algorithm, size = settings["algorithm"], settings["size"]
    defaults = registry.config_module(algorithm).Config()
    config: dict[str, Any] = {}
    for parent, key in tables:
        table = parent.table(key)
        for name, value in table.values.items():
            with table.at(name):
                _refuse_reserved(name, value, size)
                override(defaults, {name: value})
            config[name] = value

    present = [(parent, key) for parent, key in tables if key in parent.values]
    parent, key = present[-1] if present else tables[0]
    with parent.at(key):
        implied = {"num_envs": settings["num_envs"], **hidden_sizes(size)}
        _check_config(algorithm, settings["task"], {**implied, **config})
    return config


def _refuse_reserved(name: str, value: Any, size: str) -> None:
    if name == "network" and is_own(str(value)):
        raise UsageError(
            f"network {quoted(value)} is not proved equal to anything, and cannot be raced "
            f"(valid: {', '.join(NETWORKS)})"
        )
    if name == "num_envs":
        raise UsageError("num_envs is set by the race's num_envs, not in the race's config")
    if name == "hidden_sizes" and SIZES[size] is not None:
        raise UsageError(
            "hidden_sizes is set by size, not in the race's config (but with size = 'reference')"
        )


def _check_config(algorithm: str, task: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that contradict one another whatever the task's actions are.

    The kind of actions, which selects the reference, is known in the worker only.
    """
    discrete = EnvSpec.make(observation_shape=(1,), num_actions=2)
    continuous = EnvSpec.make(observation_shape=(1,), action_low=(-1.0,), action_high=(1.0,))
    reasons = []
    for spec in (discrete, continuous):
        try:
            reference = registry.reference_config(algorithm, spec, task)
            registry.config_module(algorithm).check(override(reference, settings))
        except UsageError as error:
            reasons.append(str(error))
    if len(reasons) == 2:
        raise UsageError(" or, if actions are continuous, ".join(dict.fromkeys(reasons)))


def _read_row(
    row: Table, engine: registry.Engine, keys: Sequence[str] = ROW_KEYS
) -> dict[str, Any]:
    """Return the fields of a row's cells; those that it does not set are its framework's best.

    keys: those that it may have.
    """
    for key in AXES:
        if key in row.values and key not in keys:
            raise row.wrong(f"{key} is set for a race: its rows are compared with one another", key)
    row.check_keys("row key", keys)
    own = {"python": row.text("python"), "threads": _read_threads(row)}
    if "peer" in row.values:
        return {**_read_peer(row, engine, own), **own}
    if "contestant" in row.values:
        return {**_read_contestant(row, engine, own), **own}
    _refuse_keys_of_contestants(row)
    framework = row.text("framework")
    with row.at("framework"):
        default_mode = registry.framework(framework).default_mode
    with row.at("mode"):
        mode = registry.mode(framework, row.text("mode", default_mode))
    runtime = registry.library(framework, mode)

    can_fuse = registry.RUNTIMES[runtime].fused and engine.kind == "device"
    loop = row.text("loop", "fused" if can_fuse and mode != "eager" else "host")
    if loop not in LOOPS:
        raise row.wrong(unknown("loop", loop, LOOPS), "loop")
    if loop == "fused" and not can_fuse:
        raise row.wrong(
            f"loop 'fused' needs {_fused_frameworks()} on a device engine, got {framework} on a "
            f"{engine.kind} engine; use loop = 'host'",
            "loop",
        )

    settings = "".join(f", {key} {value}" for key, value in row.table("config").values.items())
    bridge = ", bridge" if engine.kind == "device" and runtime != "jax" else ""
    ending = f"{settings}{bridge}{_ending(own)}"
    label = row.text("label", f"{framework} {mode}{ending}")
    return {"framework": framework, "mode": mode, "loop": loop, "label": label, **own}


def _refuse_keys_of_contestants(row: Table) -> None:
    """Refuse what only a contestant of a user's own has."""
    for key in OF_CONTESTANTS:
        if key in row.values:
            raise row.wrong(f"{key} are those of a contestant: name one, or leave them out", key)


def _read_threads(row: Table) -> int:
    """Return the number of threads that a row asks for; 0 if it does not."""
    threads = row.values.get("threads", 0)
    if "threads" in row.values and (type(threads) is not int or threads < 1):
        raise row.wrong(f"threads takes a whole number above 0, got {threads!r}", "threads")
    return threads


def _ending(own: Mapping[str, Any]) -> str:
    """Return the end of a label that names a row's own threads and environment."""
    count = own["threads"]
    threads = f", {count} thread{'' if count == 1 else 's'}" if count else ""
    return threads + _environment(own["python"])


def _environment(python: str) -> str:
    """Return the end of a label that names another environment by its folder."""
    if not python:
        return ""
    folders = [name for name in Path(python).parts[:-1] if name not in VENV_FOLDERS]
    return f" @ {folders[-1] if folders else python}"


def _read_peer(row: Table, engine: registry.Engine, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that names another library of peers/table.py."""
    for key in ("framework", "mode", "loop", "contestant", "python", *OF_CONTESTANTS):
        if key in row.values:
            raise row.wrong(f"{key} does not go with peer, which has its own", key)
    name = row.text("peer")
    if name not in PEERS:
        raise row.wrong(unknown("peer", name, PEERS), "peer")
    peer = PEERS[name]
    return {
        "framework": CONTESTANT,
        "mode": "",
        "loop": "fused" if engine.kind == "device" else "host",
        "label": f"{row.text('label', peer.title + _ending(own))} (not proved)",
        "contestant": peer.adapter,
        "packages": peer.packages,
        "peer": name,
    }


def _check_peer(row: Row, settings: Mapping[str, Any]) -> None:
    """Refuse a peer that has no adapter for the algorithm, or for the task's engine."""
    name = row.fields.get("peer")
    if not name:
        return
    algorithm, engine = settings["algorithm"], Task.parse(settings["task"]).engine
    games = PEERS[name].games
    if engine not in games.get(algorithm, ()):
        valid = "; ".join(f"{game}: {', '.join(engines)}" for game, engines in games.items())
        raise row.table.wrong(f"peer {name} has no {algorithm} on {engine} ({valid})", "peer")


def _check_implementation(row: Row, settings: Mapping[str, Any]) -> None:
    """Refuse a framework that does not have the algorithm."""
    if row.fields["framework"] in registry.FRAMEWORKS:
        with row.table.at("framework"):
            registry.require_implementation(settings["algorithm"], row.fields["framework"])


def differences(row: Table, cell: Cell) -> str:
    """Return in which a contestant is known to differ from our algorithm; empty for ours."""
    if cell.peer:
        return PEERS[cell.peer].differences.get(cell.algorithm, "")
    return row.text("differences") if cell.contestant else ""


def _read_contestant(row: Table, engine: registry.Engine, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that names another library's implementation."""
    for key in ("framework", "mode", "loop"):
        if key in row.values:
            raise row.wrong(f"{key} is for our own implementations, not for a contestant", key)
    row.text("differences")
    contestant = row.text("contestant")
    module, colon, function = contestant.partition(":")
    if not (module and colon and function):
        raise row.wrong(f"contestant takes 'module:function', got {contestant!r}", "contestant")
    packages = row.each("packages", []) if row.values.get("packages") else []
    if not all(isinstance(package, str) for package in packages):
        raise row.wrong(f"packages takes a list of strings, got {packages!r}", "packages")
    return {
        "framework": CONTESTANT,
        "mode": "",
        "loop": "fused" if engine.kind == "device" else "host",
        "label": f"{row.text('label', module + _ending(own))} (not proved)",
        "contestant": contestant,
        "packages": tuple(packages),
    }


def _fused_frameworks() -> str:
    """Return the frameworks that can compile a whole loop: `linen, nnx or …`."""
    fused = registry.fused_frameworks()
    return f"{', '.join(fused[:-1])} or {fused[-1]}"
