"""Visit records, reduced cell by cell: values, phases, memory, flags, failures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.stats.summaries import CellSummary, Failure, Flag

PHASES = ("import", "build", "first_call", "warmup", "steady")

Block = tuple[str, int]
"""Run and number."""


class Visit(NamedTuple):
    """One finished visit."""

    samples: np.ndarray
    """Seconds per unit."""
    turns: str = ""
    """The same for visits that took turns: their samples of one round are neighbours in time."""

    @property
    def value_s(self) -> float:
        """Their median."""
        return float(np.median(self.samples))


Visits = Mapping[Block, Visit]


def group(records: Iterable[dict]) -> dict[tuple[str, str], dict[str, list[dict]]]:
    """(group, fingerprint) -> cell_id -> records; a finished visit replaces a failed one."""
    kept: dict[tuple, dict] = {}
    for r in records:
        if r.get("kind") != "visit":
            continue
        key = (r["run_id"], r["fingerprint"], r["block"], r["cell_id"])
        if key not in kept or not finished(kept[key]):
            kept[key] = r
    grouped: dict[tuple[str, str], dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for r in kept.values():
        grouped[r["group"], r["fingerprint"]][r["cell_id"]].append(r)
    return grouped


def finished(record: Mapping[str, Any]) -> bool:
    """Whether a record has samples that can be used."""
    samples = record.get("samples_s") or []
    usable = all(isinstance(s, (int, float)) and 0 < s < math.inf for s in samples)
    return record["status"] == "ok" and bool(samples) and usable


def timed(rows: Sequence[dict]) -> dict[Block, Visit]:
    """The finished visits among the records of one cell."""
    return {
        (r["run_id"], r["block"]): Visit(
            np.asarray(r["samples_s"]) / r["units_per_sample"], r.get("turns", "")
        )
        for r in rows
        if finished(r)
    }


def summary(rows: Sequence[dict]) -> CellSummary:
    """All visits of one cell, without comparisons."""
    done = [r for r in rows if finished(r)]
    found = timed(rows).values()
    phases = {p: [r["phases_s"][p] for r in done if p in r["phases_s"]] for p in PHASES}
    peaks = [r["memory"]["rss_peak_bytes"] for r in done if "rss_peak_bytes" in r["memory"]]
    cell = rows[0]["cell"]
    return CellSummary(
        cell_id=rows[0]["cell_id"],
        label=str(cell.get("label") or f"{cell['framework']} {cell['mode']}"),
        cell={**cell, "unit": done[0]["unit"] if done else ""},
        visits=len(done),
        seconds_per_unit=float(np.median([v.value_s for v in found])) if done else None,
        units_per_s=float(np.median([1 / v.samples.mean() for v in found])) if done else None,
        phases_s={p: float(np.median(x)) for p, x in phases.items() if x},
        memory_bytes=max(peaks, default=None),
        live_bytes=None if (live := _median(done, "live_bytes")) is None else round(live),
        slope_bytes_per_call=_median(done, "slope_bytes_per_call"),
        per_call=_per_call(done[-1]) if done else {},
        flags=_flags(done),
        failures=_failures([r for r in rows if not finished(r)]),
    )


def _per_call(record: Mapping[str, Any]) -> dict[str, float]:
    """The same in every finished visit of a cell: what is not, has failed its proof of work."""
    found, work = {}, record.get("work") or {}
    if calls := record.get("calls_per_sample"):
        found["units"] = record["units_per_sample"] / calls
    if calls := work.get("calls"):
        counted = ("env_steps", "updates")
        found |= {name: work[name] / calls for name in counted if name in work}
    return found


def _median(rows: Sequence[dict], name: str) -> float | None:
    """The median over visits of one reading of their memory, of those that have it."""
    found = [r["memory"][name] for r in rows if r["memory"].get(name) is not None]
    return float(np.median(found)) if found else None


def _failures(rows: Sequence[dict]) -> tuple[Failure, ...]:
    blocks: dict[str, list[int]] = defaultdict(list)
    for r in rows:
        status = "no usable samples" if r["status"] == "ok" else r["status"]
        blocks[f"{status}: {r.get('error') or 'no reason recorded'}"].append(r["block"])
    return tuple(Failure(reason, tuple(sorted(b))) for reason, b in blocks.items())


def _flags(rows: Sequence[dict]) -> tuple[Flag, ...]:
    values: dict[str, list] = defaultdict(list)
    for r in rows:
        for name, value in (r.get("flags") or {}).items():
            values[name].append(value)
    return tuple(
        Flag(name, max(v) if all(isinstance(x, (int, float)) for x in v) else v[0], len(v))
        for name, v in sorted(values.items())
    )
