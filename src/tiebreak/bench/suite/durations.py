"""Know how long the parts of a run take, from records of earlier runs.

A table of measured durations comes with this package (durations.json, made of published records by
`python -m tiebreak.bench.manager.learn FOLDER…`); the manager keeps another for each machine. For a
cell that was never measured, the most similar one counts, its call scaled by the amount of work.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.bench.probe_table import PROBES
from tiebreak.bench.record import Record
from tiebreak.bench.suite.cells import SIZES, hidden_sizes
from tiebreak.bench.suite.plan import Cell
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError

FILE = Path(__file__).with_name("durations.json")

SOLVED_STEPS = 200_000
"""Environment steps of a training that solves its task, where no other one is known."""

FEATURES = (
    "algorithm", "framework", "mode", "task", "loop", "probe", "precision", "size", "num_envs",
    "agents", "device", "contestant", "config",
)  # fmt: skip
"""Fields of a cell by which similar ones are found."""


class Duration(NamedTuple):
    """Seconds of the parts of a run of one cell."""

    load_s: float
    """Import and build, of the whole process."""
    cold_s: float
    """First call with an empty compile cache."""
    warm_s: float
    """First call with a filled compile cache."""
    prepare_s: float
    """Making the probe, and checking its work."""
    call_s: float
    """One call."""


class Known(NamedTuple):
    """One measured cell."""

    cell: Cell
    duration: Duration


Table = Mapping[str, Any]
"""Content of a durations file: rows of FEATURES and of a Duration."""


class Durations:
    """Durations of cells, from tables of which earlier ones take precedence."""

    def __init__(self, tables: Iterable[Table]):
        self.known: dict[str, Known] = {}
        for table in tables:
            for key, known in _read_rows(table):
                self.known.setdefault(key, known)
        self._nearest: dict[str, Duration] = {}

    def of(self, cell: Cell) -> Duration:
        """Return the durations of a cell, or those of the most similar one, scaled."""
        key = _key(cell)
        if key in self.known:
            return self.known[key].duration
        if key not in self._nearest:
            self._nearest[key] = self._estimate(cell)
        return self._nearest[key]

    def _estimate(self, cell: Cell) -> Duration:
        if not self.known:
            return Duration(load_s=2.0, cold_s=3.0, warm_s=3.0, prepare_s=0.1, call_s=0.1)
        row = PROBES.get(cell.probe)
        compiles = row is not None and row.compiles and not row.once
        if compiles:  # each call does what an update does in its first
            cell = replace(cell, probe="update")
        like = replace(cell, probe="train") if row and row.once else cell
        nearest, duration = min(self.known.values(), key=lambda known: _distance(like, known.cell))
        if compiles and cell.mode != "eager":
            return duration._replace(call_s=duration.call_s + duration.warm_s)
        return duration._replace(call_s=duration.call_s * _work(cell) / _work(nearest))


@functools.cache
def shipped() -> Durations:
    """Return the durations that come with this package."""
    return Durations([read_shipped()])


def read_shipped() -> Table:
    """Return the table that comes with this package."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def learn(records: Sequence[Record]) -> dict[str, Any]:
    """Return a table of the durations in records of finished runs."""
    processes: dict[tuple, list[Record]] = defaultdict(list)
    for r in records:
        if r["kind"] == "visit" and r["status"] == "ok":
            row = Cell.from_json(r["cell"]).row if r.get("shared_process") else r["cell_id"]
            processes[row, r["block"], r.get("attempt", 0)].append(r)

    cells: dict[str, list[Record]] = defaultdict(list)
    for process in processes.values():
        for r in process:
            cells[r["cell_id"]].append(r)
    first_calls = _first_calls(processes)
    rows = []
    for cell_id, measured in cells.items():
        cell = Cell.from_json(measured[0]["cell"])
        duration = _duration(measured, *first_calls[cell_id])
        rows.append([*(getattr(cell, name) for name in FEATURES), *duration])
    return {"columns": [*FEATURES, *Duration._fields], "rows": rows}


def merge(tables: Iterable[Table], most: int) -> dict[str, Any]:
    """Return a table of the rows of all tables, of which earlier ones take precedence."""
    durations = Durations(tables)
    rows = [
        [*(getattr(known.cell, name) for name in FEATURES), *known.duration]
        for known in list(durations.known.values())[:most]
    ]
    return {"columns": [*FEATURES, *Duration._fields], "rows": rows}


def _duration(records: Sequence[Record], cold_s: float, warm_s: float) -> Duration:
    """Return the medians of a cell's records; those that prepared alone count, if there are any."""
    alone = [r for r in records if not r.get("phases_overlapped")] or records

    def median(*phases: str) -> float:
        return statistics.median(sum(r["phases_s"].get(p, 0.0) for p in phases) for r in alone)

    calls = [statistics.median(r["samples_s"]) / r["calls_per_sample"] for r in records]
    seconds = (
        median("import", "build"), cold_s, warm_s, median("proof"), statistics.median(calls)
    )  # fmt: skip
    return Duration(*(float(f"{value:.3g}") for value in seconds))


def _first_calls(processes: Mapping[tuple, Sequence[Record]]) -> dict[str, tuple[float, float]]:
    """Return cell id -> seconds of its first call with an empty and with a filled cache.

    Where probes share a process, each compiles for those after it. The sum over the process is
    shared out by the longest first call that each probe ever had.
    """
    longest: dict[str, float] = defaultdict(float)
    sums: dict[frozenset[str], dict[bool, list[float]]] = {}
    for (_, block, attempt), process in processes.items():
        ids = frozenset(r["cell_id"] for r in process)
        first_s = {r["cell_id"]: r["phases_s"].get("first_call", 0.0) for r in process}
        for cell_id, seconds in first_s.items():
            longest[cell_id] = max(longest[cell_id], seconds)
        by_cache = sums.setdefault(ids, {True: [], False: []})
        by_cache[block <= 0 and attempt == 0].append(sum(first_s.values()))

    shares: dict[str, tuple[float, float]] = {}
    for ids, by_cache in sums.items():
        cold_s = max(by_cache[True], default=max(by_cache[False], default=0.0))
        warm_s = statistics.median(by_cache[False] or by_cache[True])
        total_s = sum(longest[i] for i in ids) or 1.0
        for i in ids:
            shares[i] = cold_s * longest[i] / total_s, warm_s * longest[i] / total_s
    return shares


def _read_rows(table: Table) -> Iterable[tuple[str, Known]]:
    """Yield key and content of each row that can be read; what is broken is left out."""
    columns = table.get("columns")
    if columns != [*FEATURES, *Duration._fields]:
        return
    for row in table.get("rows", []):
        try:
            features = dict(zip(FEATURES, row[: len(FEATURES)], strict=True))
            duration = Duration(*(max(0.0, float(x)) for x in row[len(FEATURES) :]))
            cell = Cell(**features)
            yield _key(cell), Known(cell, duration)
        except (TypeError, ValueError, KeyError, UsageError):
            continue


def _key(cell: Cell) -> str:
    return json.dumps([getattr(cell, name) for name in FEATURES], sort_keys=True)


def _distance(one: Cell, other: Cell) -> float:
    """Return how different two cells are in what their durations depend on."""
    distance = 0.0
    weights = {"probe": 8.0, "algorithm": 4.0, "device": 6.0, "loop": 3.0, "framework": 2.0}
    weights |= {"mode": 1.0, "size": 2.0, "precision": 2.0, "task": 1.0, "contestant": 3.0}
    for name, weight in weights.items():
        distance += weight * (getattr(one, name) != getattr(other, name))
    if {one.probe, other.probe} == {"train", "iteration"}:
        distance -= 6.0
    distance += 4.0 * (_library(one) != _library(other))
    distance += 2.0 * ((one.mode == "eager") != (other.mode == "eager"))
    engines = one.task.partition("/")[0], other.task.partition("/")[0]
    distance += 4.0 * (engines[0] != engines[1])
    distance += 0.2 * abs(math.log2(one.num_envs / other.num_envs))
    distance += 0.3 * abs(math.log2(one.agents / other.agents))
    return distance + 0.5 * (one.config != other.config)


def _library(cell: Cell) -> str:
    row = registry.FRAMEWORKS.get(cell.framework)
    return row.library(cell.mode) if row else cell.framework


def _work(cell: Cell) -> float:
    """Return the work of a call, in steps of a small environment: a ratio of two is what counts."""
    if cell.probe == "env":
        return cell.num_envs
    try:
        config: Any = override(
            registry.config_module(cell.algorithm).Config(),
            {"num_envs": cell.num_envs, **hidden_sizes(cell.size), **cell.config},
        )
        steps, updates = config.iteration_steps, config.updates_per_iteration
    except (UsageError, AttributeError):
        return 1.0
    rows = config.batch_size / getattr(config, "num_minibatches", 1)
    widths = SIZES.get(cell.size) or (256, 256)
    parameters = sum(a * b for a, b in itertools.pairwise(widths))
    update = 20 + rows * (1 + parameters / 3e4) / 20
    acting = 1 + parameters / 1e6
    work = {
        "forward": 20 + cell.num_envs * acting,
        "interact": steps * acting,
        "update": config.updates_per_step * update,
    }
    iteration = steps * acting + updates * update
    work["solve"] = SOLVED_STEPS / steps * iteration
    return work.get(cell.probe, iteration) * math.sqrt(cell.agents)
