"""Tables across groups: breakdown of a step, interact against its upper bounds, populations.

They repeat medians of the groups' own tables and decide nothing. Only populations against one torch
agent have intervals (stats/agents_per_time.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tiebreak.bench.probe_table import ALIASES, PROBES
from tiebreak.registry import algorithms_with, config_module
from tiebreak.report import phrases
from tiebreak.report.formatting import DASH, amount, measured_time, si, size, times
from tiebreak.stats.agents_per_time import AgentRace, AgentsPerTime, agent_races
from tiebreak.stats.summaries import CellSummary, GroupSummary

BREAKDOWN = {name: PROBES[name].title for name in ALIASES["breakdown"]}
"""Probes of a breakdown, and the headings of their columns."""

ByProbe = Mapping[str, Mapping[str, CellSummary]]
"""Summaries by probe and label."""


class CrossTable(NamedTuple):
    """One table as text."""

    title: str
    note: str
    """Explanation of the table and of its limits."""
    headings: tuple[str, ...]
    """Headings of the columns; the first column names the rows."""
    rows: tuple[tuple[str, ...], ...]


def per_thousand(group: GroupSummary) -> str:
    """Return `seconds per 1000 training steps (batch 256): linen jit 4.10, torch compile 10.2`.

    Empty unless the group measures gradient steps of an off-policy algorithm.
    """
    finished = [c for c in group.cells if c.seconds_per_unit]
    if not finished or not _is_off_policy_update(finished[0].cell):
        return ""
    values = [f"{phrases.name(c)} {1000 * (c.seconds_per_unit or 0.0):.3g}" for c in finished]
    batch = _batch_size(finished[0].cell)
    return f"seconds per 1000 training steps (batch {batch}): {', '.join(values)}"


def _is_off_policy_update(cell: Mapping[str, Any]) -> bool:
    return cell.get("probe") == "update" and cell.get("algorithm") in algorithms_with("off_policy")


def _batch_size(cell: Mapping[str, Any]) -> int:
    default = config_module(cell["algorithm"]).Config().batch_size
    return int(cell.get("config", {}).get("batch_size", default))


def cross_tables(groups: Sequence[GroupSummary]) -> list[CrossTable]:
    """Build the tables whose probes were all measured."""
    races: dict[tuple, dict[str, dict[str, CellSummary]]] = {}
    for group in groups:
        for cell in group.cells:
            probes = races.setdefault(_race(group, cell), {})
            probes.setdefault(cell.cell["probe"], {})[cell.label] = cell
    tables = []
    for key, probes in races.items():
        title = " · ".join(str(part) for part in key[:-1] if part)
        if set(BREAKDOWN) <= probes.keys():
            tables.append(_breakdown(title, probes))
        if {"env", "forward", "interact"} <= probes.keys():
            tables.append(_upper_bounds(title, probes))
    return tables + _populations(groups) + [_agents_table(race) for race in agent_races(groups)]


def _trains_many(summary: CellSummary) -> bool:
    """Return True if the cell's probe trains several agents."""
    probe = PROBES.get(summary.cell["probe"])
    return probe is not None and probe.many_agents


def _race(group: GroupSummary, summary: CellSummary) -> tuple:
    """Return what the groups of one race have in common: all but the probe."""
    parts = [part for part in group.group.split(" · ") if part != summary.cell["probe"]]
    return (*parts, group.fingerprint)


def _breakdown(title: str, probes: ByProbe) -> CrossTable:
    iterations = [c for c in probes["iteration"].values() if c.seconds_per_unit]
    return CrossTable(
        title=f"breakdown · {title}",
        note="Time of one full step, and the share of it that each part takes when it is measured "
        "by itself: each is a call of its own, so that shares need not add up. Collect includes "
        "forward.",
        headings=("cell", *BREAKDOWN.values(), "rest"),
        rows=tuple(_breakdown_row(cell, probes) for cell in iterations),
    )


def _breakdown_row(iteration: CellSummary, probes: ByProbe) -> tuple[str, ...]:
    """Return the time of an iteration, and the shares of its parts."""
    env_steps = iteration.per_call.get("env_steps", 0.0)
    updates = iteration.per_call.get("updates", 0.0)
    total_s = env_steps * (iteration.seconds_per_unit or 0.0)
    seconds: dict[str, float] = {}
    for probe, count in (("forward", env_steps), ("interact", env_steps), ("update", updates)):
        cell = probes[probe].get(iteration.label)
        if cell and cell.seconds_per_unit:
            seconds[probe] = count * cell.seconds_per_unit
    if "interact" in seconds and "update" in seconds:
        seconds["rest"] = total_s - seconds["interact"] - seconds["update"]
    shares = [
        _share(seconds.get(part), total_s) for part in ("forward", "interact", "update", "rest")
    ]
    return (phrases.name(iteration), measured_time(total_s), *shares)


def _share(seconds: float | None, total_s: float) -> str:
    """Return `0.090 ms (48 %)`; a negative time has its sign in front."""
    if seconds is None or not total_s:
        return DASH
    sign = "-" if seconds < 0 else ""
    return f"{sign}{measured_time(abs(seconds))} ({100 * seconds / total_s:.0f} %)"


def _upper_bounds(title: str, probes: ByProbe) -> CrossTable:
    env_rate = next((c.units_per_s for c in probes["env"].values() if c.units_per_s), None)
    rows = []
    for label, interact in probes["interact"].items():
        forward = probes["forward"].get(label)
        policy_rate = forward.units_per_s if forward else None
        rows.append(
            (
                phrases.name(interact),
                _rate(env_rate),
                _rate(policy_rate),
                _rate(interact.units_per_s),
                _share_of_lower(env_rate, policy_rate, interact.units_per_s),
            )
        )
    return CrossTable(
        title=f"interact against its upper bounds · {title}",
        note="Environment steps per second of the environment alone, of the policy alone, and of "
        "both in turn, as a share of the lower of the two.",
        headings=("cell", "environment alone", "policy alone", "interact", "of the lower"),
        rows=tuple(rows),
    )


def _populations(groups: Sequence[GroupSummary]) -> list[CrossTable]:
    """Build a table for cells that differ in the number of agents only."""
    races: dict[tuple, list[CellSummary]] = {}
    for group in groups:
        for cell in group.cells:
            if _trains_many(cell) and cell.units_per_s:
                race = [p for p in _race(group, cell)[:-1] if p != f"agents {_agents(cell)}"]
                races.setdefault((*race, group.fingerprint), []).append(cell)
    return [
        CrossTable(
            title=f"population · {' · '.join(key[:-1])}",
            note="Environment steps per second of all agents together and of each of them, the "
            "gain over the fewest agents of that cell, and the process's largest memory.",
            headings=("cell", "agents", "together", "each", "gain", "peak memory"),
            rows=tuple(_population_rows(cells)),
        )
        for key, cells in races.items()
    ]


def _population_rows(cells: Sequence[CellSummary]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each cell and number of agents."""
    fewest_per_s: dict[str, float] = {}
    for cell in sorted(cells, key=lambda cell: (phrases.name(cell), _agents(cell))):
        name = phrases.name(cell)
        agents = _agents(cell)
        per_s = cell.units_per_s or 0.0
        gain = per_s / fewest_per_s.setdefault(name, per_s)
        yield name, str(agents), si(per_s), si(per_s / agents), times(gain), size(cell.memory_bytes)


def agents_text(one: AgentsPerTime) -> str:
    """Return the number of agents that are trained in the time of one, `412 [380, 447]`."""
    if one.low is None or one.high is None:
        return amount(one.trained)
    return f"{amount(one.trained)} [{amount(one.low)}, {amount(one.high)}]"


def _agents_table(race: AgentRace) -> CrossTable:
    cell, best = race.baseline.cell, race.best
    task = str(cell["task"]).partition("/")[2]
    settings = f"{cell['algorithm']} · {task} · num_envs {cell['num_envs']}"
    return CrossTable(
        title=f"agents in the time of one · {settings}",
        note=f"While {_where(race.baseline)} trains one agent, {phrases.name(best.cell)} trains "
        f"{agents_text(best)}, in programs of {best.agents}: environment steps per second of all "
        "agents together, divided by those of torch's fastest one. Last, how long all agents of a "
        "program take, where that one takes 1×. Both were measured in the same blocks, but not "
        "in turns: the interval is Welch's, from how the runs of each scatter by themselves. "
        "Start and compilation are in neither.",
        headings=("cell", "agents", "together", "in the time of one [95 %]", "all of them take"),
        rows=(
            *(_single_row(one, race.baseline) for one in race.baselines),
            *map(_agents_row, race.populations),
        ),
    )


def _single_row(one: CellSummary, baseline: CellSummary) -> tuple[str, ...]:
    relative = (one.seconds_per_unit or 0.0) / (baseline.seconds_per_unit or 1.0)
    trained = amount(1 / relative) if relative else DASH
    return _where(one), "1", _rate(one.units_per_s), trained, times(relative)


def _agents_row(one: AgentsPerTime) -> tuple[str, ...]:
    return (
        phrases.name(one.cell),
        str(one.agents),
        _rate(one.cell.units_per_s),
        agents_text(one),
        times(one.agents / one.trained),
    )


def _where(single: CellSummary) -> str:
    """Return `torch compile on gymnasium/CartPole-v1`."""
    return f"{phrases.name(single)} on {single.cell['task']}"


def _agents(summary: CellSummary) -> int:
    return int(summary.cell.get("agents", 1))


def _rate(per_s: float | None) -> str:
    return si(per_s) if per_s else DASH


def _share_of_lower(env: float | None, policy: float | None, interact: float | None) -> str:
    if not env or not policy or not interact:
        return DASH
    return f"{100 * interact / min(env, policy):.0f} %"
