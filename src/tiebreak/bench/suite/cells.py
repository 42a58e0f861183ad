"""[[races]] of a suite file -> cells, every setting checked where it stands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.bench.suite.plan import Cell
from tiebreak.bench.suite.toml_table import Table
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.types import EnvSpec
from tiebreak.envs.task import Task

SCALES = ("smoke", "quick", "full")
BREAKDOWN = ("iteration", "forward", "interact", "update")
"""What `breakdown` stands for: the full step, and what it is made of."""
PROBES = (
    "forward", "env", "interact", "update", "train", "iteration", "breakdown", "population",
    "rebuild",
)  # fmt: skip
SIZES: dict[str, tuple[int, ...] | None] = {
    "s": (64, 64), "m": (256,) * 3, "l": (1024,) * 6, "reference": None,
}  # fmt: skip
"""Hidden layers by size, for policy and value alike; None: as the algorithm's settings have it."""

ALONE = {"host": "numpy", "device": "jax"}
"""What stands in a cell's `framework` where an environment is measured alone, by engine kind."""

COMMON = {"algorithm": "ppo", "precision": "float32", "size": "s", "device": "cpu", "cache": "warm"}
"""Settings of a suite or of a race, and what they are where neither says."""

AXES = ("task", "num_envs", "agents", *COMMON)
"""What may be a list in a race."""

RACE_KEYS = ("name", *AXES, "scales", "probes", "rows", "config", *SCALES)
ROW_KEYS = ("framework", "mode", "loop", "label", "config")
LOOPS = ("host", "fused")


class Placed(NamedTuple):
    """A cell, the table that it was written in, and what its whole group has to share."""

    place: Table
    cell: Cell
    config: Mapping[str, Any]
    """The race's settings, without those of the row."""


def hidden_sizes(size: str) -> dict[str, Any]:
    """The setting that a size stands for, if it does."""
    widths = SIZES[size]
    return {} if widths is None else {"hidden_sizes": widths}


def scales(race: Table) -> list[str]:
    """The scales that a race belongs to: all of them, unless it says."""
    found = race.each("scales", list(SCALES))
    for index, scale in enumerate(found):
        if scale not in SCALES:
            raise race.wrong(unknown("scale", str(scale), SCALES), "scales", index)
    return found


def read_race(suite: Table, race: Table, scale: str) -> Iterator[Placed]:
    """The cells of a race, with its settings at a scale."""
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
    probes = _probes(race)
    for values in itertools.product(*axes.values()):
        shared = {**dict(zip(axes, values, strict=True)), "race": race.text("name")}
        yield from _cells(race, probes, shared, scale)


def _probes(race: Table) -> list[str]:
    """The probes of a race, what `breakdown` stands for in its place."""
    given = race.each("probes", [])
    for index, probe in enumerate(given):
        if probe not in PROBES:
            raise race.wrong(unknown("probe", str(probe), PROBES), "probes", index)
    meant = [BREAKDOWN if probe == "breakdown" else (probe,) for probe in given]
    return list(dict.fromkeys(itertools.chain(*meant)))


def _cells(
    race: Table, probes: list[str], shared: Mapping[str, Any], scale: str
) -> Iterator[Placed]:
    """One combination of a race's settings: its rows, at each probe."""
    engine = Task.parse(shared["task"]).row
    config = _config([(race, "config"), (race, scale)], shared)
    rows = race.tables("rows", '[{ framework = "torch" }]')
    framed = [
        (row, _row(row, engine),
         _config([(race, "config"), (race, scale), (row, "config")], shared))
        for row in rows
    ]  # fmt: skip
    for probe in probes:
        _check_agents(race, probe, shared["agents"], framed)
        if probe == "env":  # the same for every framework, so it is measured once
            alone = {"framework": ALONE[engine.kind], "mode": "", "loop": engine.kind}
            label = {"label": "environment alone", "config": config}
            yield Placed(race, Cell(**{**shared, **alone, **label, "probe": probe}), config)
        else:
            for row, own, settings in framed:
                yield Placed(row, Cell(**shared, **own, probe=probe, config=settings), config)


def _check_agents(race: Table, probe: str, agents: int, framed: list[Any]) -> None:
    """Only `population` trains many agents, and only in one program."""
    if probe != "population":
        if agents != 1:
            raise race.wrong(f"agents is for the probe population, not for {probe}", "agents")
        return
    for row, own, _ in framed:
        if own["loop"] != "fused":
            raise row.wrong(
                "the probe population needs loop 'fused': linen, nnx or equinox, compiled, on a "
                f"device engine; got {own['label']}"
            )


def _check_setting(key: str, value: Any) -> None:
    """Refuse a value that a setting cannot have."""
    valid = {
        "algorithm": registry.ALGORITHMS,
        "precision": registry.PRECISIONS,
        "size": SIZES,
        "cache": ("warm", "cold"),
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


def _config(places: list[tuple[Table, str]], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithm's settings from tables, later ones first to count; checked one by one by name
    and type, and against each other.
    """
    config = registry.config_module(shared["algorithm"]).Config()
    placed = {}
    for place, name in places:
        table = place.table(name)
        for key, value in table.values.items():
            with table.at(key):
                _check_place(key, shared["size"])
                override(config, {key: value})
            placed[key] = value
    own = {"num_envs": shared["num_envs"], **hidden_sizes(shared["size"])}
    there = [(place, name) for place, name in places if name in place.values]
    place, name = (there or places)[-1 if there else 0]
    with place.at(name):
        _check_config(shared["algorithm"], shared["task"], {**own, **placed})
    return placed


def _check_place(key: str, size: str) -> None:
    if key == "num_envs":
        raise UsageError("num_envs is set by the race's num_envs, not in the race's config")
    if key == "hidden_sizes" and SIZES[size] is not None:
        raise UsageError(
            "hidden_sizes is set by size, not in the race's config (but with size = 'reference')"
        )


def _check_config(algorithm: str, task: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that contradict one another whatever the task's actions are.

    Which kind of actions it has, and so which reference holds, is known in the worker only.
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
    own = "".join(f", {key} {value}" for key, value in row.table("config").values.items())
    label = row.text("label", f"{framework} {mode}{own}" + (", bridge" if bridged else ""))
    return {"framework": framework, "mode": mode, "loop": loop, "label": label}
