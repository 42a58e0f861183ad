"""Data types of a resolved suite: cells, how much to measure, and the order of runs.

A *cell* is one combination of everything that a suite varies. A *group* is a set of cells that are
equal in all but framework, mode, the kind of loop, and what their labels name: only these are
compared. A
*run* is one process; it measures one cell or, where a scale shares processes, all probes of one
row. An *interleaving* is a set of runs that sample in turns, and a *block* runs every cell once.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.core.config import digest
from tiebreak.core.seeding import derive
from tiebreak.envs.task import Task

CALIBRATION = -1
"""The number of the block whose runs only calibrate the calls per sample."""

COLD_S = 1.0
"""Other workers used the CPU caches since this run's last turn, so that the first call is slower by
some 5 ms. It is made before the sample, off the clock, unless calls last longer than this."""


@dataclass(frozen=True)
class Cell:
    """One benchmark: an algorithm in a framework on a task, measured by one probe."""

    algorithm: str
    framework: str
    mode: str
    task: str
    loop: str
    probe: str
    precision: str = "float32"
    size: str = "s"
    num_envs: int = 1
    device: str = "cpu"
    cache: str = "warm"
    """Compile cache: warm (shared by the runs of a suite) or cold (empty in each run)."""
    label: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    """Settings of the algorithm that differ from its reference configuration."""
    race: str = ""
    """Name of its race; needed where two races would otherwise be one group."""
    agents: int = 1
    """Agents trained at once, by the probe `population`."""
    contestant: str = ""
    """`module:function` that makes another library's agent (probes/contestants.py); empty: ours."""
    packages: tuple[str, ...] = ()
    """Packages that a contestant imports."""
    peer: str = ""
    """Key of peers.table.PEERS whose adapter the contestant is; empty: ours, or a user's own."""
    python: str = ""
    """Interpreter of another environment in which it runs, as the suite gives it; empty: ours."""
    threads: int = 0
    """Threads of its library; 0: as many as suit it best, see frameworks/threads.py."""
    precision_varies: bool = False
    """The rows of its race differ in precision: labels name it, and the group's name does not."""
    ceiling_of: tuple[str, ...] = ()
    """Groups of another engine in whose charts it is a line. It is compared with nothing."""

    def to_json(self) -> dict[str, Any]:
        """Return every field; optional ones only if set, so that ids of older cells stay valid."""
        optional = {
            "race": "",
            "agents": 1,
            "contestant": "",
            "packages": (),
            "peer": "",
            "python": "",
            "threads": 0,
            "precision_varies": False,
            "ceiling_of": (),
        }
        values = asdict(self)
        return {k: v for k, v in values.items() if k not in optional or v != optional[k]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cell:
        """Build a cell from what `to_json` returned; other keys, as `id`, are ignored."""
        names = {f.name for f in fields(cls)}
        known = {key: value for key, value in values.items() if key in names}
        lists = {key: tuple(known.get(key, ())) for key in ("packages", "ceiling_of")}
        return cls(**{**known, **lists})

    @property
    def id(self) -> str:
        """Digest of all fields, 16 hex digits."""
        return digest(self.to_json())

    @property
    def group(self) -> str:
        """Name of its group, e.g. `ppo · gymnax/CartPole-v1 · train · num_envs 4`.

        Values that differ from the defaults (float32, size s, cpu, warm) are appended, then the
        race. The precision is left out where the rows of the race differ in it. A ceiling has a
        group of its own.
        """
        names = [self.algorithm, self.task, self.probe, f"num_envs {self.num_envs}"]
        if self.probe == "population":
            names.append(f"agents {self.agents}")
        defaults = {"precision": "float32", "size": "s", "device": "cpu", "cache": "warm"}
        if self.precision_varies:
            del defaults["precision"]
        for key, default in defaults.items():
            if getattr(self, key) != default:
                names.append(str(getattr(self, key)))
        if self.race:
            names.append(self.race)
        if self.ceiling_of:
            names.append(f"ceiling: {self.label}")
        return " · ".join(names)

    @property
    def row(self) -> str:
        """Digest of all but the probe and its groups: cells of one row can share a process."""
        return digest(replace(self, probe="", ceiling_of=()).to_json())

    @property
    def engine(self) -> registry.Engine:
        """Row of the registry of the engine that its task belongs to."""
        return Task.parse(self.task).row


@dataclass(frozen=True)
class Effort:
    """Amount of measuring in one run, set by a scale of a suite. All times in seconds."""

    sample_s: float = 0.4
    """Least duration of a sample: calls are repeated until it is reached. Filling JAX's pipeline
    costs 1 to 3 ms of each sample, which must stay below 1 % of it."""
    samples: int = 20
    """Least number of samples."""
    steady_s: float = 2.0
    """Least total duration of all samples."""
    longest_s: float = 120.0
    """Stop sampling, and the memory series, after this long even with fewer samples; the flag
    too_short is set then."""
    silent_calls: int = 5
    """End the warm-up when this many calls in a row compiled nothing."""
    warmup_s: float = 60.0
    """End the warm-up of slow calls after this long, with at least one call that compiled
    nothing."""
    most_calls: int = 10_000
    """Most calls in one sample."""
    memory_calls: int = 50
    """Calls of the memory series, after the samples. 0 takes none; fewer than 8 give no bound."""

    def once(self) -> Effort:
        """Return that of a probe which is one call: one sample, however long."""
        return replace(self, samples=1, sample_s=0.0, steady_s=0.0, silent_calls=0, memory_calls=0)


@dataclass(frozen=True)
class Scale:
    """Amount of measuring of a suite. All times in seconds."""

    blocks: int = 10
    """Runs of each cell."""
    stages: tuple[int, ...] = ()
    """Numbers of blocks, the last of them `blocks`. After each, only groups with an interval wider
    than ±`half_width` go on to the next. Empty: all blocks, whatever the intervals."""
    half_width: float = 0.015
    """Half width of an interval, as a share of the ratio, at which a group is finished."""
    least_blocks: int = 1
    """Number of blocks that may run until `limit_s` instead of `budget_s`."""
    budget_s: float | None = None
    """Stop starting blocks that would finish after this many seconds."""
    limit_s: float | None = None
    """Time limit for the first `least_blocks` blocks, which may exceed `budget_s`."""
    share_process: bool = False
    """Measure all probes of a row in one process."""
    first: tuple[str, ...] = ()
    """Probes that are measured before the others, in the first `least_blocks` blocks; the others
    follow while `budget_s` lasts."""
    rounds: int = 0
    """Samples in turns of each run that are aimed at, an even number. There are fewer, but not less
    than `samples`, where the first `least_blocks` blocks would otherwise end too late."""
    start_at_once: int = 1
    """Most processes that start and prepare at the same time, before any of them is sampled. In the
    first block it is one, so that the time which a start takes is measured."""
    repeat_contended: bool = False
    """Repeat blocks in which other processes or the host took more than 5 % of the CPU time, at
    most half as many as there are."""
    calibration: bool = False
    """Start with one run of each cell that only calibrates the calls per sample."""
    certificate: bool = True
    """Verify that the frameworks compute the same numbers, unless that is known of this source and
    these packages: before the blocks or, with `budget_s`, after them if there is time left."""
    timeout_s: float = 600.0
    """Time limit of one run, without waiting for its turns."""
    effort: Effort = field(default_factory=Effort)


class Run(NamedTuple):
    """One worker process: its place in the schedule and its cells in the order of measurement."""

    block: int
    """Number of the block, from 0, or CALIBRATION."""
    position: int
    """Place in the order of its interleaving, from 0."""
    cells: tuple[Cell, ...]
    probes: tuple[str, ...] = ()
    """Order of probes in the whole interleaving."""
    attempt: int = 0
    """Earlier measurements of the block; a later attempt replaces them."""


@dataclass(frozen=True)
class Job:
    """Everything that a worker process is told."""

    cells: tuple[Cell, ...]
    effort: Effort = field(default_factory=Effort)
    calls: dict[str, int] = field(default_factory=dict)
    """Cell id -> calls per sample, calibrated by an earlier run."""
    packages: tuple[str, ...] = ()
    """Guarded packages that may be imported."""
    threads: int = 1
    """Threads of the library: one for each CPU, or as many as the row asks for."""
    fixed_threads: bool = False
    """The row asks for them; otherwise frameworks/threads.py may choose fewer."""
    cpus: tuple[int, ...] = ()
    """CPUs that the process may use."""
    seed: int = 0
    hash_seed: int = 0
    """PYTHONHASHSEED."""
    subject: str = ""
    """`module:function` that makes what is measured; empty for this package's own."""
    turns: str = ""
    """Id of the interleaving; empty if the run has the machine to itself."""
    stretch: int = 0
    """Samples in a row to take after those in turns, see worker/turns.py."""
    manager_pid: int = 0
    """The worker ends when this process does."""
    algorithm_settings: dict[str, Any] = field(default_factory=dict)
    """All settings of the algorithm, for a contestant; ours resolve them from the cell."""
    checkout: str = ""
    """Folder of the source of a peer that is no package; empty: it is installed."""

    def to_json(self) -> dict[str, Any]:
        """Return every field, each cell with its id.

        Later fields only if they are set: workers of older versions do not know them.
        """
        later = {"fixed_threads", "algorithm_settings", "checkout"}
        cells = [{**cell.to_json(), "id": cell.id} for cell in self.cells]
        values = {**asdict(self), "cells": cells}
        return {name: value for name, value in values.items() if value or name not in later}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """Build a job from what `to_json` returned."""
        parsed = {
            "cells": tuple(map(Cell.from_json, values["cells"])),
            "effort": Effort(**values["effort"]),
            "packages": tuple(values["packages"]),
            "cpus": tuple(values["cpus"]),
        }
        return cls(**{**values, **parsed})


@dataclass(frozen=True)
class Plan:
    """A resolved suite: nothing is left to a default."""

    suite: str
    """Name of the suite."""
    scale: str
    """Name of the scale."""
    seed: int
    """Seed of the order of runs and of all workers."""
    settings: Scale
    cells: tuple[Cell, ...]
    published: tuple[Mapping[str, Any], ...] = ()
    """Tables published by others (suite/published.py), shown beside the results."""
    differences: tuple[Mapping[str, str], ...] = ()
    """In what contestants are known to differ from our algorithm: label, algorithm, text."""
    share: str = ""
    """Which part of the suite's blocks it is, such as `2/3` (suite/share.py); empty: all."""

    def modules(self) -> list[str]:
        """Return the names of the users' own modules that its runs import."""
        of_tasks = {Task.parse(cell.task).module for cell in self.cells}
        of_rows = {cell.contestant.partition(":")[0] for cell in self.cells if not cell.peer}
        return sorted((of_tasks | of_rows) - {""})

    def groups(self) -> dict[str, list[str]]:
        """Return group -> ids of its cells, in the suite's order."""
        groups: dict[str, list[str]] = {}
        for cell in self.cells:
            groups.setdefault(cell.group, []).append(cell.id)
        return groups

    def block(self, index: int) -> list[list[Run]]:
        """Return the interleavings of a block, each a list of runs in order.

        All runs of an interleaving measure their probes in one order, those of `settings.first`
        before the others. The order of each even block is drawn from the seed; the odd block after
        it is its mirror.
        """
        interleavings: dict[str, dict[str, list[Cell]]] = {}
        for cell in self.cells:
            if self.settings.share_process:
                name, row = replace(cell, probe="all probes").group, cell.row
            else:
                name, row = cell.group, cell.id
            interleavings.setdefault(name, {}).setdefault(row, []).append(cell)
        return [self._ordered(name, rows, index) for name, rows in interleavings.items()]

    def _ordered(self, name: str, rows: dict[str, list[Cell]], index: int) -> list[Run]:
        rng = random.Random(derive(self.seed, "order", name, index // 2))
        probes = list(dict.fromkeys(cell.probe for row in rows.values() for cell in row))
        rng.shuffle(probes)
        order = rng.sample(list(rows.values()), len(rows))
        if index % 2:
            probes.reverse()
            order.reverse()
        probes.sort(key=lambda probe: probe not in self.settings.first)

        runs = []
        for position, row in enumerate(order):
            cells = sorted(row, key=lambda cell: probes.index(cell.probe))
            runs.append(Run(index, position, tuple(cells), tuple(probes)))
        return runs
