"""Cells -> groups -> the order of visits: what a resolved suite is.

A *cell* is one combination of everything that is varied. A *group* is a set of cells equal in all
but framework, mode and how that framework best loops (fused or host): only these are compared. A
*visit* is one process: of one cell, or, where a scale shares processes, of one row's probes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from tiebreak.bench.worker.sampling import Effort
from tiebreak.core.config import digest
from tiebreak.core.seeding import derive


@dataclass(frozen=True)
class Cell:
    """One combination; `config` holds the algorithm's settings that are not the reference's."""

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
    label: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    race: str = ""
    """The name of its race, where two would else be one group."""
    agents: int = 1
    """Trained at once, by the probe `population`."""

    def facts(self) -> dict[str, Any]:
        """Every field; of the last two what is not usual, so that cells without keep their id."""
        usual = {"race": "", "agents": 1}
        return {k: v for k, v in asdict(self).items() if k not in usual or v != usual[k]}

    @property
    def id(self) -> str:
        """16 hex digits that stand for every field."""
        return digest(self.facts())

    @property
    def group(self) -> str:
        """The name of its group, e.g. `ppo · gymnax/CartPole-v1 · train · num_envs 4`.

        What is not usual (float32, size s, cpu, warm) is named behind, and so is the race.
        """
        parts = [self.algorithm, self.task, self.probe, f"num_envs {self.num_envs}"]
        parts += [f"agents {self.agents}"] if self.probe == "population" else []
        named = {"precision": "float32", "size": "s", "device": "cpu", "cache": "warm"}
        parts += [str(getattr(self, k)) for k, usual in named.items() if getattr(self, k) != usual]
        return " · ".join([*parts, self.race] if self.race else parts)

    @property
    def row(self) -> str:
        """What cells have in common that differ only in the probe: they can share a process."""
        return digest({**self.facts(), "probe": ""})


@dataclass(frozen=True)
class Scale:
    """How much of a suite is run. Times in seconds."""

    blocks: int = 10
    stages: tuple[int, ...] = ()
    """Numbers of blocks, the last of them `blocks`: after each, only groups with an interval wider
    than ±`half_width` go on to the next. Empty: all blocks, whatever the intervals."""
    half_width: float = 0.015
    least_blocks: int = 1
    budget_s: float | None = None
    """No block after the first starts that would end later than this;"""
    limit_s: float | None = None
    """except the first `least_blocks`, which may last until here."""
    share_process: bool = False
    calibration: bool = False
    certificate: bool = True
    timeout_s: float = 600.0
    effort: Effort = field(default_factory=Effort)


class Visit(NamedTuple):
    """One process to be: where in the schedule, and its cells in the order of measurement."""

    block: int
    """-1 for the calibration visit."""
    position: int
    cells: tuple[Cell, ...]
    probes: tuple[str, ...] = ()
    """The order of probes of the whole set."""


@dataclass(frozen=True)
class Plan:
    """A suite, resolved: nothing is left to a default."""

    suite: str
    scale: str
    seed: int
    settings: Scale
    cells: tuple[Cell, ...]
    published: tuple[Mapping[str, Any], ...] = ()
    """Tables of others (bench/published.py), to be shown beside what is measured."""

    def groups(self) -> dict[str, list[str]]:
        """Group -> ids of its cells, in the suite's order."""
        out: dict[str, list[str]] = {}
        for cell in self.cells:
            out.setdefault(cell.group, []).append(cell.id)
        return out

    def block(self, index: int) -> list[list[Visit]]:
        """Block `index`: for each set of groups that share processes, its visits in order.

        All visits of a set measure their probes in one order, as they take turns (together.py).

        The order is drawn from the seed for each even block; the odd one after it is its mirror.
        """
        sets: dict[str, dict[str, list[Cell]]] = {}
        shared = self.settings.share_process
        for cell in self.cells:
            together = replace(cell, probe="all probes").group if shared else cell.group
            row = cell.row if shared else cell.id
            sets.setdefault(together, {}).setdefault(row, []).append(cell)
        return [self._ordered(name, rows, index) for name, rows in sets.items()]

    def _ordered(self, name: str, rows: dict[str, list[Cell]], index: int) -> list[Visit]:
        rng = random.Random(derive(self.seed, "order", name, index // 2))
        probes = list(dict.fromkeys(cell.probe for row in rows.values() for cell in row))
        rng.shuffle(probes)
        order = rng.sample(list(rows.values()), len(rows))
        if index % 2:
            probes, order = probes[::-1], order[::-1]
        return [
            Visit(index, i, tuple(sorted(row, key=lambda c: probes.index(c.probe))), tuple(probes))
            for i, row in enumerate(order)
        ]
