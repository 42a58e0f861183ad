"""Compare many agents in one program with one torch agent: how many train in the time of one?

The program takes environment steps of all its agents together, the torch agent its own; the ratio
of these rates is the number of agents that are trained in the time that torch needs for one. The
two are measured in the same blocks, but in different interleavings, so that their runs share no
state of the machine: the interval is Welch's, from the scatter of each cell's own runs
(docs/decisions/0043).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.stats import intervals
from tiebreak.stats.summaries import CellSummary, GroupSummary

BASELINE = "torch"
"""Framework of the one agent."""
SINGLE, MANY = "train", "population"
"""Probes that train one agent, and many in one program."""


class AgentsPerTime(NamedTuple):
    """A population against one agent of the baseline."""

    cell: CellSummary
    agents: int
    """Agents in the program."""
    trained: float
    """Agents trained in the time that the baseline needs for one."""
    low: float | None
    """Low end of its 95 % interval; None if either side has a single run."""
    high: float | None


class AgentRace(NamedTuple):
    """The populations of one task and one set of settings, against their baseline."""

    baselines: tuple[CellSummary, ...]
    """Cells of the one agent, whichever engine simulates the task for it, fastest first."""
    populations: tuple[AgentsPerTime, ...]

    @property
    def baseline(self) -> CellSummary:
        """The fastest of them, with which the populations are compared."""
        return self.baselines[0]

    @property
    def best(self) -> AgentsPerTime:
        """The population that trains most agents in that time."""
        return max(self.populations, key=lambda one: one.trained)


def agent_races(groups: Sequence[GroupSummary]) -> list[AgentRace]:
    """Return populations with a baseline on the same machine, task and settings.

    Cells that a validity flag bars are left out. Tasks are the same if their names are, without the
    engine: simulated in JAX for a fused program, an engine on the host may serve torch better.
    """
    baselines: dict[str, list[CellSummary]] = {}
    populations: dict[str, list[CellSummary]] = {}
    for group in groups:
        for cell in group.cells:
            if not cell.values_s or cell.barred:
                continue
            if is_population(cell):
                populations.setdefault(_settings(cell, group), []).append(cell)
            elif is_baseline(cell):
                baselines.setdefault(_settings(cell, group), []).append(cell)
    return [
        _race(sorted(baselines[key], key=lambda c: c.seconds_per_unit or 0.0), cells)
        for key, cells in populations.items()
        if key in baselines
    ]


def is_population(cell: CellSummary) -> bool:
    """Return True if a cell trains many agents in one program."""
    return cell.cell["probe"] == MANY


def is_baseline(cell: CellSummary) -> bool:
    """Return True if a cell trains one agent of the baseline."""
    return cell.cell["probe"] == SINGLE and cell.cell["framework"] == BASELINE


def _settings(cell: CellSummary, group: GroupSummary) -> str:
    """Return what a population and its baseline have in common, as text."""
    fields: dict[str, Any] = {"task": str(cell.cell["task"]).partition("/")[2].partition("@")[0]}
    for name in ("algorithm", "num_envs", "size", "precision", "device"):
        fields[name] = cell.cell.get(name)
    fields["config"] = cell.cell.get("config") or {}
    return json.dumps([fields, group.fingerprint], sort_keys=True)


def _race(baselines: Sequence[CellSummary], cells: Sequence[CellSummary]) -> AgentRace:
    ordered = sorted(cells, key=lambda cell: (cell.label, _agents(cell)))
    return AgentRace(
        baselines=tuple(baselines),
        populations=tuple(_against(baselines[0], cell) for cell in ordered),
    )


def _agents(cell: CellSummary) -> int:
    return int(cell.cell.get("agents", 1))


def _against(baseline: CellSummary, cell: CellSummary) -> AgentsPerTime:
    one, many = np.log(baseline.values_s), np.log(cell.values_s)
    mean = float(one.mean() - many.mean())
    low = high = None
    if min(len(one), len(many)) > 1:
        difference = intervals.welch(many.tolist(), one.tolist())
        low, high = intervals.exp(difference.low), intervals.exp(difference.high)
    return AgentsPerTime(cell, _agents(cell), intervals.exp(mean), low, high)
