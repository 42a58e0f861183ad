"""One side of a comparison of two results folders: its cells, machine and canaries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tiebreak.core.errors import unknown
from tiebreak.stats import hardware_diff, visits
from tiebreak.stats.hardware_diff import Fact
from tiebreak.stats.machine_drift import Seconds
from tiebreak.stats.summaries import CellSummary


class Side(NamedTuple):
    """What a folder holds of the fingerprint that most of its finished visits have."""

    fingerprint: str
    machine: Mapping[str, Any]
    runs: frozenset[str]
    groups: dict[str, str]
    """cell_id -> group."""
    rows: dict[str, list[dict]]
    """cell_id -> records."""
    cells: dict[str, CellSummary]
    canaries: list[Seconds]
    """All readings, calibration excepted."""
    left_out: int
    """Finished visits with another fingerprint."""

    @property
    def example(self) -> str:
        """The first cell, by its group and label."""
        return next((f"{self.groups[i]}, {c.label}" for i, c in self.cells.items()), "no visit")

    @property
    def blocks(self) -> int:
        """In which anything was tried."""
        return len({(r["run_id"], r["block"]) for rows in self.rows.values() for r in rows})


def side(records: Sequence[dict]) -> Side:
    """All records of a folder -> what is compared of it."""
    grouped = visits.group(records)
    counts: dict[str, int] = defaultdict(int)
    for (_, fingerprint), cells in grouped.items():
        counts[fingerprint] += sum(len(visits.timed(rows)) for rows in cells.values())
    chosen = max(counts, key=lambda f: counts[f], default="")
    ours = {group: cells for (group, f), cells in grouped.items() if f == chosen}
    rows = {i: found for cells in ours.values() for i, found in cells.items()}
    own = [r for r in records if r.get("fingerprint") == chosen]
    return Side(
        fingerprint=chosen,
        machine=next((r["machine"] for r in reversed(own) if r["kind"] == "machine"), {}),
        runs=frozenset(r["run_id"] for found in rows.values() for r in found),
        groups={i: group for group, cells in ours.items() for i in cells},
        rows=rows,
        cells={i: visits.summary(found) for i, found in rows.items()},
        canaries=[r["values_s"] for r in own if r["kind"] == "canary" and r["block"] >= 0],
        left_out=sum(counts.values()) - counts.get(chosen, 0),
    )


def references(a: Side, common: Sequence[str], name: str) -> dict[str, str]:
    """Group -> cell_id of the cell with this label or, first by label, of this framework.

    Raises UsageError where no group has one.
    """
    names = {i: (a.cells[i].label, a.cells[i].cell["framework"]) for i in common}
    found = sorted((i for i in common if name in names[i]), key=lambda i: names[i])
    if not found:
        raise unknown("cell", name, sorted({n for both in names.values() for n in both}))
    return {a.groups[i]: i for i in reversed(found)}


def differences(a: Side, b: Side, common: Sequence[str]) -> list[Fact]:
    """In what the machines, the runs, and the settings that workers read back differ."""
    facts = hardware_diff.differences(a.machine, b.machine)
    for name in ("suite", "scale", "shared_process"):
        found = [{str(r.get(name)) for i in common for r in s.rows[i]} for s in (a, b)]
        one, other = (", ".join(sorted(values)) for values in found)
        facts += [Fact(name, one, other)] if one != other else []
    return facts + _settings(a, b, common)


def _settings(a: Side, b: Side, common: Sequence[str]) -> list[Fact]:
    """Each difference once, with the cells that have it."""
    labels: dict[Fact, set[str]] = defaultdict(set)
    for i in common:
        one, other = (next((r["settings"] for r in s.rows[i] if r["settings"]), {}) for s in (a, b))
        for fact in hardware_diff.differences(one, other) if one and other else ():
            labels[fact].add(a.cells[i].label)
    return [f._replace(name=f"{f.name} of {', '.join(sorted(n))}") for f, n in labels.items()]


def comparable_canaries(a: Side, b: Side) -> tuple[list[Seconds], list[Seconds]]:
    """The readings of both, less the canaries that rest on software in which the two differ.

    A canary is named for it: `numpy_product` says nothing of the machine under another NumPy.
    """
    changed = {fact.name for fact in hardware_diff.differences(a.machine, b.machine)}

    def left(side: Side) -> list[Seconds]:
        kept = [n for x in side.canaries[:1] for n in x if n.split("_")[0] not in changed]
        return [{name: x[name] for name in kept if name in x} for x in side.canaries]

    return left(a), left(b)
