"""Check `leak`: a planted leak is flagged within 50 calls, and work without one is not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from tiebreak.bench.record import Record
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.mechanics.traps import (
    BRIEF,
    HONEST,
    MODES,
    Pair,
    cells,
    installed,
    name,
    race,
)
from tiebreak.selftest.workloads.toy_model import ROWS, WIDTH

UNITS = 50
"""Calls in the memory series."""

PLANTED: tuple[Pair, ...] = (
    ("nnx", "rebuilds agents with a closure"),
    ("linen", "keeps its outputs"),
    ("torch", "keeps its outputs"),
    ("tensorflow", "keeps its outputs"),
)
CONTROL: tuple[Pair, ...] = (
    ("nnx", "rebuilds agents"),
    *((framework, HONEST) for framework in MODES),
)
ARRAY_BYTES = 4 * ROWS * WIDTH
"""Bytes that one call of a leak keeps at least: an output, or the weights of an agent."""


def leak(ctx: Context) -> Outcome:
    """Run leaks, and the same work without them, in one race."""
    if ctx.scale == "smoke":
        return check(ctx, PLANTED[:1], CONTROL[:1], 1)
    return check(ctx, PLANTED, CONTROL, ctx.count(1, 2, 5))


def check(ctx: Context, planted: Sequence[Pair], control: Sequence[Pair], blocks: int) -> Outcome:
    """Run these leaks and controls in `blocks` runs of one block each, and judge their records.

    The memory series is taken in the first block of a run only.
    """
    effort = replace(BRIEF, memory_calls=UNITS)
    measured_cells = cells([*planted, *control], modes={**MODES, "nnx": "jit"})
    records: list[Record] = []
    for i in range(blocks):
        ctx.say(f"run {i + 1} of {blocks}: {len(measured_cells)} visits")
        run = race(ctx, f"leaks-{i + 1}", measured_cells, blocks=1, effort=effort)
        records += installed(run)
    return judge(records, planted)


def judge(records: list[Record], planted: Sequence[Pair]) -> Outcome:
    """Judge the records; the pairs in `planted` must be flagged, the others must not."""
    leaks = [r for r in records if (r["cell"]["framework"], r["cell"]["label"]) in planted]
    clean = [r for r in records if r not in leaks]
    missed = [name(r) for r in leaks if "memory_growing" not in r["flags"]]
    wrong = [
        name(r)
        for r in clean
        if "memory_growing" in r["flags"] or r["status"] != "ok" or not _series(r)
    ]
    measured = {
        "units": UNITS,
        "leaks": len(leaks),
        "missed": len(missed),
        "control": len(clean),
        "control_flagged": len(wrong),
        "array_bytes": ARRAY_BYTES,
        "slope_bytes_per_call": slopes(records),
    }
    detail = (
        f"{len(leaks) - len(missed)} of {len(leaks)} leaks flagged by {UNITS} units, "
        f"control {len(wrong)} of {len(clean)}"
    )
    for verdict, names in (("not flagged", missed), ("flagged", wrong)):
        if names:
            detail += f"; {verdict}: {', '.join(sorted(set(names)))}"
    raw: dict[str, list[list[int]]] = {}
    for r in records:
        raw.setdefault(name(r), []).append(_series(r))
    passed = not missed and not wrong if records else None
    return Outcome(passed, measured, detail, {"series_bytes": raw})


def slopes(records: list[Record]) -> dict[str, float]:
    """Return the median slope over the visits of each cell, bytes per call."""
    by_cell: dict[str, list[float]] = {}
    for record in records:
        if "slope_bytes_per_call" in record["memory"]:
            by_cell.setdefault(name(record), []).append(record["memory"]["slope_bytes_per_call"])
    return {cell: round(statistics.median(values)) for cell, values in by_cell.items()}


def _series(record: Record) -> list[int]:
    """Return bytes above the first reading."""
    series = record["memory"].get("series_bytes", [])
    return [value - series[0] for value in series]
