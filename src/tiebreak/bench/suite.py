"""Reads a suite file into a Plan. Everything is checked before a visit runs.

A suite has settings for all cells, [scales.NAME] (how much to measure) and [[races]]: a task, its
probes, and rows, one for each framework and mode. bench/suites/quick.toml is a commented example.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.bench.plan import Cell, Plan, Scale
from tiebreak.bench.steady import Effort
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError, unknown

SUITES = Path(__file__).parent / "suites"
SCALES = ("smoke", "quick", "full")
PROBES = ("forward", "env", "interact", "update", "train")
SIZES = {"s": (64, 64), "m": (256,) * 3, "l": (1024,) * 6}
"""Hidden layers by size, for policy and value alike."""

ALONE = {"host": "numpy", "device": "jax"}
"""What stands in a cell's `framework` where an environment is measured alone, by engine kind."""

COMMON = {"algorithm": "ppo", "precision": "float32", "size": "s", "device": "cpu", "cache": "warm"}
"""Settings for all cells of a suite, and what they are if it does not say."""


def names() -> list[str]:
    """The built-in suites."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def load(suite: str, scale: str | None, seed: int) -> Plan:
    """Read a built-in suite, or a .toml file, at a scale (None: quick).

    Raises UsageError for whatever is unknown or contradictory in it.
    """
    scale = scale or "quick"
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    name, table = _read(suite)
    _check_keys(f"suite {name!r}", table, {*COMMON, "description", "scales", "races"})
    scales = table.get("scales", {})
    _check_keys("scales", scales, SCALES)
    if scale not in scales:
        raise UsageError(f"suite {name!r} has no scale {scale!r} (it has: {', '.join(scales)})")
    common = {key: table.get(key, usual) for key, usual in COMMON.items()}
    _check_common(common)
    cells = [cell for race in table.get("races", []) for cell in _race(common, race, scale)]
    if not cells:
        raise UsageError(f"suite {name!r} names no race: add [[races]] with task, probes and rows")
    _check_groups(name, cells)
    return Plan(name, scale, seed, _scale(scales[scale]), tuple(cells))


def _read(suite: str) -> tuple[str, dict[str, Any]]:
    if not suite.endswith(".toml") and suite not in names():
        raise unknown("suite", suite, names(), "(or give the path of a .toml file)")
    path = Path(suite) if suite.endswith(".toml") else SUITES / f"{suite}.toml"
    try:
        return path.stem, tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read suite {suite!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"suite {suite!r} is not TOML: {error}") from error


def _check_keys(where: str, table: Any, valid: Iterable[str]) -> None:
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} must be a table, got {table!r}")
    for key in table:
        if key not in set(valid):
            raise unknown(f"key in {where}", key, sorted(valid))


def _check_groups(name: str, cells: list[Cell]) -> None:
    if len({cell.id for cell in cells}) < len(cells):
        raise UsageError(f"suite {name!r} names a cell twice: give one of the rows a label")
    configs: dict[str, Any] = {}
    for cell in cells:
        if configs.setdefault(cell.group, cell.config) != cell.config:
            raise UsageError(f"suite {name!r}: two races are {cell.group!r}, with other settings")


def _check_common(common: Mapping[str, Any]) -> None:
    valid = {
        "algorithm": registry.ALGORITHMS,
        "precision": registry.PRECISIONS,
        "size": SIZES,
        "cache": ("warm", "cold"),
    }
    for key, names_ in valid.items():
        if common[key] not in names_:
            raise unknown(key, str(common[key]), names_)


def _race(common: Mapping[str, Any], race: Any, scale: str) -> list[Cell]:
    _check_keys("a race", race, {"task", "num_envs", "probes", "rows", "config", *SCALES})
    for key in ("task", "probes", "rows"):
        if not race.get(key):
            raise UsageError(f"a race needs {key}; got {race}")
    engine = _engine(race["task"])
    settings = {**race.get("config", {}), **race.get(scale, {})}
    shared = {**common, "task": race["task"], "num_envs": race.get("num_envs", 1)}
    shared["config"] = _settings(common["algorithm"], settings)
    cells = []
    for probe in race["probes"]:
        if probe not in PROBES:
            raise unknown("probe", str(probe), PROBES)
        if probe == "env":  # the same for every framework, so it is measured once
            alone: dict[str, Any] = {
                "framework": ALONE[engine.kind],
                "mode": "",
                "loop": engine.kind,
            }
            cells.append(Cell(**shared, **alone, probe=probe, label="environment alone"))
            continue
        cells += [Cell(**shared, **_row(row, engine), probe=probe) for row in race["rows"]]
    return cells


def _engine(task: Any) -> registry.Engine:
    engine, slash, name = str(task).partition("/")
    if not slash or not name:
        raise UsageError(f"a task is written engine/name, e.g. gymnax/CartPole-v1; got {task!r}")
    if engine not in registry.ENGINES:
        raise unknown("engine", engine, registry.ENGINES)
    return registry.ENGINES[engine]


def _settings(algorithm: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithm's settings in a race, checked by name and type."""
    for key, where in (("num_envs", "the race's num_envs"), ("hidden_sizes", "the suite's size")):
        if key in settings:
            raise UsageError(f"{key} is set by {where}, not in the race's config")
    override(registry.config_module(algorithm).Config(), settings)
    return dict(settings)


def _row(row: Any, engine: registry.Engine) -> dict[str, Any]:
    """A row's framework, mode, loop and label; each has the best of its framework as default."""
    _check_keys("a row", row, {"framework", "mode", "loop", "label"})
    framework = str(row.get("framework", ""))
    on_device = registry.framework(framework).runtime == "jax" and engine.kind == "device"
    mode = registry.mode(framework, row.get("mode"))
    loop = row.get("loop", "fused" if on_device and mode != "eager" else "host")
    if loop not in ("host", "fused"):
        raise unknown("loop", str(loop), ("host", "fused"))
    if loop == "fused" and not on_device:
        raise UsageError(
            f"loop 'fused' needs linen, nnx or equinox on a device engine, got {framework} on a "
            f"{engine.kind} engine; use loop = 'host'"
        )
    bridged = engine.kind == "device" and registry.framework(framework).runtime != "jax"
    label = f"{framework} {mode}" + (", bridge" if bridged else "")
    return {"framework": framework, "mode": mode, "loop": loop, "label": row.get("label", label)}


def _scale(table: Mapping[str, Any]) -> Scale:
    effort = {f.name for f in fields(Effort)}
    outer = {f.name: f.default for f in fields(Scale) if f.name != "effort"}
    _check_keys("a scale", table, effort | outer.keys())
    for key, value in table.items():
        if isinstance(outer.get(key), bool):
            if not isinstance(value, bool):
                raise UsageError(f"{key} takes true or false, got {value!r}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise UsageError(f"{key} takes a positive number, got {value!r}")
    inner = {k: v for k, v in table.items() if k in effort}
    return Scale(**{k: v for k, v in table.items() if k in outer}, effort=Effort(**inner))
