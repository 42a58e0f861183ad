"""One of two results folders that are compared: its cells, machine and canaries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tiebreak.core.errors import unknown
from tiebreak.stats import hardware_diff, visits
from tiebreak.stats.hardware_diff import FactDiff
from tiebreak.stats.machine_drift import Reading
from tiebreak.stats.summaries import CellSummary


class ResultSet(NamedTuple):
    """The records of a folder with one fingerprint: that of most of its finished visits."""

    fingerprint: str
    machine: Mapping[str, Any]
    """The latest machine record."""
    runs: frozenset[str]
    """run_ids."""
    groups: dict[str, str]
    """Name of the group by cell_id."""
    records: dict[str, list[dict]]
    """Visit records by cell_id."""
    cells: dict[str, CellSummary]
    """Summaries by cell_id."""
    canaries: list[Reading]
    """All readings but those of the calibration."""
    left_out: int
    """Number of finished visits with another fingerprint."""

    @property
    def example(self) -> str:
        """Group and label of the first cell."""
        return next((f"{self.groups[i]}, {c.label}" for i, c in self.cells.items()), "no visit")

    @property
    def blocks(self) -> int:
        """Number of blocks in which any cell was tried."""
        return len({(r["run_id"], r["block"]) for rows in self.records.values() for r in rows})


def from_records(records: Sequence[dict]) -> ResultSet:
    """Select and summarize the records of a folder that are compared."""
    grouped = visits.group_records(records)
    counts: dict[str, int] = defaultdict(int)
    for (_, fingerprint), cells in grouped.items():
        counts[fingerprint] += sum(len(visits.finished_visits(rows)) for rows in cells.values())
    chosen = max(counts, key=lambda f: counts[f], default="")

    groups: dict[str, str] = {}
    by_cell: dict[str, list[dict]] = {}
    for (group, fingerprint), cells in grouped.items():
        if fingerprint == chosen:
            by_cell |= cells
            groups |= dict.fromkeys(cells, group)

    ours = [r for r in records if r.get("fingerprint") == chosen]
    return ResultSet(
        fingerprint=chosen,
        machine=next((r["machine"] for r in reversed(ours) if r["kind"] == "machine"), {}),
        runs=frozenset(r["run_id"] for rows in by_cell.values() for r in rows),
        groups=groups,
        records=by_cell,
        cells={cell_id: visits.summarize_cell(rows) for cell_id, rows in by_cell.items()},
        canaries=[r["values_s"] for r in ours if r["kind"] == "canary" and r["block"] >= 0],
        left_out=sum(counts.values()) - counts.get(chosen, 0),
    )


def references(a: ResultSet, common: Sequence[str], name: str) -> dict[str, str]:
    """Return {group: cell_id} of the cells with this label or framework, the first by label.

    Raises UsageError if no group has one.
    """
    names = {i: (a.cells[i].label, a.cells[i].cell["framework"]) for i in common}
    matching = sorted((i for i in common if name in names[i]), key=lambda i: names[i])
    if not matching:
        raise unknown("cell", name, sorted({n for both in names.values() for n in both}))
    return {a.groups[i]: i for i in reversed(matching)}


def differences(a: ResultSet, b: ResultSet, common: Sequence[str]) -> list[FactDiff]:
    """Return what differs between the machines, the runs, and the settings workers read back."""
    diffs = hardware_diff.differences(a.machine, b.machine)
    for name in ("suite", "scale", "shared_process"):
        value_a, value_b = (
            ", ".join(sorted({str(r.get(name)) for i in common for r in side.records[i]}))
            for side in (a, b)
        )
        if value_a != value_b:
            diffs.append(FactDiff(name, value_a, value_b))
    return diffs + _setting_differences(a, b, common)


def _setting_differences(a: ResultSet, b: ResultSet, common: Sequence[str]) -> list[FactDiff]:
    """Return each difference of settings once, with the labels of the cells that have it."""
    labels: dict[FactDiff, set[str]] = defaultdict(set)
    for i in common:
        settings_a, settings_b = _settings(a.records[i]), _settings(b.records[i])
        if settings_a and settings_b:
            for diff in hardware_diff.differences(settings_a, settings_b):
                labels[diff].add(a.cells[i].label)
    return [
        diff._replace(name=f"{diff.name} of {', '.join(sorted(cells))}")
        for diff, cells in labels.items()
    ]


def _settings(records: Sequence[dict]) -> dict[str, Any]:
    return next((r["settings"] for r in records if r["settings"]), {})


def comparable_canaries(a: ResultSet, b: ResultSet) -> tuple[list[Reading], list[Reading]]:
    """Return the canary readings of both, without canaries whose software differs.

    A canary is named after its software: `numpy_product` does not measure the machine alone if
    the two runs have different versions of NumPy.
    """
    changed = {diff.name for diff in hardware_diff.differences(a.machine, b.machine)}
    return _readings(a, changed), _readings(b, changed)


def _readings(results: ResultSet, changed: set[str]) -> list[Reading]:
    if not results.canaries:
        return []
    kept = [name for name in results.canaries[0] if name.split("_")[0] not in changed]
    return [{n: reading[n] for n in kept if n in reading} for reading in results.canaries]
