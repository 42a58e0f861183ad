"""Tables that put several groups side by side: breakdowns, ceilings, and what others published.

They repeat medians of the groups' own tables, have no intervals, and decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tiebreak.bench.probe_table import ALIASES, PROBES
from tiebreak.registry import algorithms_with, config_module
from tiebreak.report import phrases
from tiebreak.stats.summaries import CellSummary, GroupSummary

BREAKDOWN = {name: PROBES[name].title for name in ALIASES["breakdown"]}
"""Probes of a breakdown -> titles of their columns."""


class Sheet(NamedTuple):
    """One table as text."""

    title: str
    about: str
    """Under the title: what it is of, and what it is not."""
    heads: tuple[str, ...]
    """Of the columns; the first is of the rows' names."""
    rows: tuple[tuple[str, ...], ...]


def per_thousand(group: GroupSummary) -> str:
    """`seconds per 1000 training steps (batch 256): linen jit 4.10, torch compile 10.2`.

    Nothing of groups that are no gradient steps of an off-policy algorithm.
    """
    done = [c for c in group.cells if c.seconds_per_unit]
    if not done or not _trains(done[0].cell):
        return ""
    each = [f"{phrases.name(c)} {1000 * (c.seconds_per_unit or 0.0):.3g}" for c in done]
    return f"seconds per 1000 training steps (batch {_batch(done[0].cell)}): {', '.join(each)}"


def _trains(cell: Mapping[str, Any]) -> bool:
    return cell.get("probe") == "update" and cell.get("algorithm") in algorithms_with("off_policy")


def _batch(cell: Mapping[str, Any]) -> int:
    usual = config_module(cell["algorithm"]).Config().batch_size
    return int(cell.get("config", {}).get("batch_size", usual))


def side_by_side(groups: Sequence[GroupSummary]) -> list[Sheet]:
    """Breakdowns and ceilings, where what they are made of was measured."""
    together: dict[tuple, dict[str, dict[str, CellSummary]]] = {}
    for group in groups:
        for cell in group.cells:
            probes = together.setdefault(_race(group, cell), {})
            probes.setdefault(cell.cell["probe"], {})[cell.label] = cell
    sheets = []
    for key, probes in together.items():
        title = " · ".join(str(part) for part in key[:-1] if part)
        if set(BREAKDOWN) <= probes.keys():
            sheets.append(_breakdown(title, probes))
        if {"env", "forward", "interact"} <= probes.keys():
            sheets.append(_ceiling(title, probes))
    return [*sheets, *_populations(groups)]


def _trains_many(summary: CellSummary) -> bool:
    probe = PROBES.get(summary.cell["probe"])
    return probe is not None and probe.many_agents


def _race(group: GroupSummary, summary: CellSummary) -> tuple:
    """What the groups of a race have in common: all but the probe."""
    parts = [part for part in group.group.split(" · ") if part != summary.cell["probe"]]
    return (*parts, group.fingerprint)


def _breakdown(title: str, probes: Mapping[str, Mapping[str, CellSummary]]) -> Sheet:
    rows = [_parts(full, probes) for full in probes["iteration"].values() if full.seconds_per_unit]
    return Sheet(
        f"breakdown · {title}",
        "Time of one full step, and the share of it that each part takes when it is measured by "
        "itself: each is a call of its own, so that shares need not add up. Forward is in collect.",
        ("cell", *BREAKDOWN.values(), "rest"),
        tuple(rows),
    )


def _parts(full: CellSummary, probes: Mapping[str, Mapping[str, CellSummary]]) -> tuple[str, ...]:
    """A row: seconds of an iteration, and of its acts, environment steps and updates."""
    steps, updates = full.per_call.get("env_steps", 0.0), full.per_call.get("updates", 0.0)
    whole = steps * (full.seconds_per_unit or 0.0)
    units = {"forward": steps, "interact": steps, "update": updates}
    seconds: dict[str, float] = {}
    for probe, count in units.items():
        cell = probes[probe].get(full.label)
        if cell and cell.seconds_per_unit:
            seconds[probe] = count * cell.seconds_per_unit
    if {"interact", "update"} <= seconds.keys():
        seconds["rest"] = whole - seconds["interact"] - seconds["update"]
    parts = [_share(seconds.get(name), whole) for name in (*units, "rest")]
    return (phrases.name(full), phrases.duration(whole), *parts)


def _share(seconds: float | None, whole: float) -> str:
    """`0.090 ms (48 %)`; what is less than nothing has its sign before it."""
    if seconds is None or not whole:
        return phrases.DASH
    sign = "-" if seconds < 0 else ""
    return f"{sign}{phrases.duration(abs(seconds))} ({100 * seconds / whole:.0f} %)"


def _ceiling(title: str, probes: Mapping[str, Mapping[str, CellSummary]]) -> Sheet:
    alone = next((c.units_per_s for c in probes["env"].values() if c.units_per_s), None)
    rows = []
    for label, both in probes["interact"].items():
        policy = probes["forward"].get(label)
        rates = alone, policy.units_per_s if policy else None, both.units_per_s
        rows.append((phrases.name(both), *map(_rate, rates), _reached(*rates)))
    return Sheet(
        f"interact against its ceilings · {title}",
        "Environment steps per second of the environment alone and of the policy alone, of both in "
        "turn, and what share of the lower of the two that is.",
        ("cell", "environment alone", "policy alone", "interact", "of the lower"),
        tuple(rows),
    )


def _populations(groups: Sequence[GroupSummary]) -> list[Sheet]:
    """Cells that differ in the number of agents alone, one below the other."""
    together: dict[tuple, list[CellSummary]] = {}
    for group in groups:
        for cell in group.cells:
            if _trains_many(cell) and cell.units_per_s:
                race = [p for p in _race(group, cell)[:-1] if p != f"agents {_agents(cell)}"]
                together.setdefault((*race, group.fingerprint), []).append(cell)
    return [
        Sheet(
            f"population · {' · '.join(key[:-1])}",
            "Environment steps per second of all agents together and of each of them, how much "
            "faster all are than the fewest agents of that cell, and the process's largest memory.",
            ("cell", "agents", "together", "each", "gain", "peak memory"),
            tuple(_gains(cells)),
        )
        for key, cells in together.items()
    ]


def _gains(cells: Sequence[CellSummary]) -> Iterator[tuple[str, ...]]:
    """Rows by cell and number of agents."""
    ordered = sorted(cells, key=lambda cell: (phrases.name(cell), _agents(cell)))
    fewest: dict[str, float] = {}
    for cell in ordered:
        name, agents, per_s = phrases.name(cell), _agents(cell), cell.units_per_s or 0.0
        gain = phrases.times(per_s / fewest.setdefault(name, per_s))
        rates = phrases.si(per_s), phrases.si(per_s / agents)
        yield name, str(agents), *rates, gain, phrases.size(cell.memory_bytes)


def _agents(summary: CellSummary) -> int:
    return int(summary.cell.get("agents", 1))


def _rate(per_s: float | None) -> str:
    return phrases.si(per_s) if per_s else phrases.DASH


def _reached(alone: float | None, policy: float | None, both: float | None) -> str:
    if not alone or not policy or not both:
        return phrases.DASH
    return f"{100 * both / min(alone, policy):.0f} %"
