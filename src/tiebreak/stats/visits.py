"""Group and reduce the records of runs, cell by cell.

A visit is one run of a cell in one process; its record (kind "visit") holds raw samples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.stats import intervals
from tiebreak.stats.summaries import CellSummary, Failure, Flag

PHASES = ("import", "build", "first_call", "warmup", "steady")

VARIED = ("probe", "ceiling_of")
"""Fields in which the cells of one process differ."""

Block = tuple[str, int]
"""(run_id, number of the block)."""


class Visit(NamedTuple):
    """One finished visit."""

    samples: np.ndarray
    """[samples] seconds per unit."""
    turns: str = ""
    """Equal for visits that were interleaved: samples at the same index are of one round."""

    @property
    def value_s(self) -> float:
        """Median seconds per unit."""
        return float(intervals.median(self.samples))


Visits = Mapping[Block, Visit]


def group_records(records: Iterable[dict]) -> dict[tuple[str, str], dict[str, list[dict]]]:
    """Return visit records as {(group, fingerprint): {cell_id: records}}.

    Of several records of one visit, a finished one replaces a failed one; of a block that was
    repeated, the last attempt counts.
    """
    kept: dict[tuple, dict] = {}
    for r in last_attempts([r for r in records if r.get("kind") == "visit"]):
        key = (r["run_id"], r["fingerprint"], r["block"], r["cell_id"])
        if key not in kept or not is_finished(kept[key]):
            kept[key] = r
    grouped: dict[tuple[str, str], dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for r in kept.values():
        grouped[r["group"], r["fingerprint"]][r["cell_id"]].append(r)
    return grouped


def last_attempts(visits: Sequence[dict]) -> list[dict]:
    """Return the records of the last whole attempt at each block of a group.

    A contended block is measured again (`attempt` 1, 2, …), and replaced as a whole. An attempt
    that was interrupted, with records of fewer cells than one before it, does not count.
    """
    cells: dict[tuple, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for r in visits:
        cells[_block_of(r)][r.get("attempt", 0)].add(r["cell_id"])

    last = {}
    for block, attempts in cells.items():
        whole = max(map(len, attempts.values()))
        last[block] = max(n for n, ids in attempts.items() if len(ids) == whole)
    return [r for r in visits if r.get("attempt", 0) == last[_block_of(r)]]


def _block_of(record: Mapping[str, Any]) -> tuple:
    return record["run_id"], record["fingerprint"], record["block"], record["group"]


def is_finished(record: Mapping[str, Any]) -> bool:
    """Return True if a record has status ok, units of work, and samples positive and finite."""
    samples = record.get("samples_s") or []
    usable = all(isinstance(s, (int, float)) and 0 < s < math.inf for s in samples)
    counted = record["units_per_sample"] > 0
    return record["status"] == "ok" and bool(samples) and usable and counted


def finished_visits(records: Sequence[dict]) -> dict[Block, Visit]:
    """Return the finished visits of one cell, by block."""
    return {
        (r["run_id"], r["block"]): Visit(
            samples=np.asarray(r["samples_s"]) / r["units_per_sample"],
            turns=r.get("turns", ""),
        )
        for r in records
        if is_finished(r)
    }


def summarize_cell(records: Sequence[dict]) -> CellSummary:
    """Reduce all visits of one cell to a summary without comparisons."""
    done = [r for r in records if is_finished(r)]
    visits = finished_visits(records).values()
    values_s = tuple(visit.value_s for visit in visits)
    warm = [r for r in done if r["block"] > 0] or done
    phases = {p: [r["phases_s"][p] for r in warm if p in r["phases_s"]] for p in PHASES}
    peaks = [r["memory"]["rss_peak_bytes"] for r in done if "rss_peak_bytes" in r["memory"]]
    live = _median_memory(done, "live_bytes")
    cell = records[0]["cell"]
    return CellSummary(
        cell_id=records[0]["cell_id"],
        label=str(cell.get("label") or f"{cell['framework']} {cell['mode']}"),
        cell={**cell, "unit": done[0]["unit"] if done else ""},
        visits=len(done),
        seconds_per_unit=float(np.median(values_s)) if done else None,
        units_per_s=float(np.median([1 / v.samples.mean() for v in visits])) if done else None,
        phases_s={p: float(np.median(x)) for p, x in phases.items() if x},
        memory_bytes=max(peaks, default=None),
        live_bytes=None if live is None else round(live),
        slope_bytes_per_call=_median_memory(done, "slope_bytes_per_call"),
        per_call=_work_per_call(done[-1]) if done else {},
        flags=_flags(done),
        failures=_failures([r for r in records if not is_finished(r)]),
        values_s=values_s,
    )


def start_seconds(records: Iterable[dict]) -> dict[str, float]:
    """Return {cell_id: seconds from the start of a process to its first result}, of each cell's
    first finished block: the one whose compile cache was empty.

    A process that measures several probes compiles for all of them in the first calls; what an
    earlier probe has compiled, a later one does not compile again. So first calls are summed in
    their order, up to the cell's own. Processes that prepared at the same time as others
    (`phases_overlapped`) took longer: they count only for cells that have no others.
    """
    processes: dict[tuple, list[dict]] = defaultdict(list)
    rows: dict[int, tuple] = {}
    for r in records:
        if is_finished(r):
            cell = r["cell"]
            if id(cell) not in rows:  # visits that were read for tables share their cells
                rows[id(cell)] = _row_of(cell)
            row = rows[id(cell)]
            process = bool(r.get("phases_overlapped")), r["block"], r.get("attempt", 0)
            processes[r["run_id"], r["fingerprint"], process, row].append(r)

    seconds: dict[str, float] = {}
    for _, process in sorted(processes.items(), key=lambda item: item[0][2]):
        order = {probe: rank for rank, probe in enumerate(process[0].get("order", []))}
        total_s = 0.0
        for r in sorted(process, key=lambda r: order.get(r["cell"]["probe"], 0)):
            total_s += r["phases_s"].get("first_call", 0.0)
            loading_s = sum(r["phases_s"].get(phase, 0.0) for phase in ("import", "build"))
            seconds.setdefault(r["cell_id"], loading_s + total_s)
    return seconds


def _row_of(cell: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what the cells of one process have in common."""
    return tuple(sorted((k, str(v)) for k, v in cell.items() if k not in VARIED))


def _work_per_call(record: Mapping[str, Any]) -> dict[str, float]:
    """Return units, environment steps and updates per call.

    They are equal in every finished visit of a cell: otherwise its check of work has failed.
    """
    per_call = {}
    if calls := record.get("calls_per_sample"):
        per_call["units"] = record["units_per_sample"] / calls
    work = record.get("work") or {}
    if calls := work.get("calls"):
        for name in ("env_steps", "updates"):
            if name in work:
                per_call[name] = work[name] / calls
    return per_call


def _median_memory(records: Sequence[dict], name: str) -> float | None:
    """Return the median over visits of one memory reading; None if no visit has it."""
    values = [r["memory"][name] for r in records if r["memory"].get(name) is not None]
    return float(np.median(values)) if values else None


def _failures(records: Sequence[dict]) -> tuple[Failure, ...]:
    blocks: dict[str, list[int]] = defaultdict(list)
    for r in records:
        status = "no usable samples" if r["status"] == "ok" else r["status"]
        blocks[f"{status}: {r.get('error') or 'no reason recorded'}"].append(r["block"])
    return tuple(Failure(reason, tuple(sorted(b))) for reason, b in blocks.items())


def _flags(records: Sequence[dict]) -> tuple[Flag, ...]:
    values: dict[str, list] = defaultdict(list)
    for r in records:
        for name, value in (r.get("flags") or {}).items():
            values[name].append(value)
    return tuple(Flag(name, _worst(v), len(v)) for name, v in sorted(values.items()))


def _worst(values: Sequence[Any]) -> Any:
    """Return the largest of numbers, or the first of other values."""
    return max(values) if all(isinstance(v, (int, float)) for v in values) else values[0]
