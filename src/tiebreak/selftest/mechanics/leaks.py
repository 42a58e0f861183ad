"""A planted leak is flagged within 50 calls, and agents that are let go are not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from tiebreak.bench.record import Record
from tiebreak.selftest.checks import Context, Outcome
from tiebreak.selftest.mechanics.traps import BRIEF, HONEST, MODES, Pair, cells, name, race, there
from tiebreak.selftest.workloads.toy_model import ROWS, WIDTH

UNITS = 50
"""Calls of the memory series."""

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
"""What one call leaves behind: an output that is kept, or the weights of an agent, or more."""


def leak(ctx: Context) -> Outcome:
    """Leaks and the same work without them, in one race."""
    if ctx.scale == "smoke":
        return check(ctx, PLANTED[:1], CONTROL[:1], 1)
    return check(ctx, PLANTED, CONTROL, ctx.count(1, 2, 5))


def check(ctx: Context, planted: Sequence[Pair], control: Sequence[Pair], blocks: int) -> Outcome:
    """The row for these leaks, so many visits of each.

    The memory series is taken in a run's first block only, so each visit is in a run of its own.
    """
    effort = replace(BRIEF, memory_calls=UNITS)
    of = cells([*planted, *control], modes={**MODES, "nnx": "jit"})
    records: list[Record] = []
    for i in range(blocks):
        ctx.say(f"run {i + 1} of {blocks}: {len(of)} visits")
        records += there(race(ctx, f"leaks-{i + 1}", of, 1, effort=effort))
    return judge(records, planted)


def judge(records: list[Record], planted: Sequence[Pair]) -> Outcome:
    """What the records say, of which those of `planted` leak."""
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
    for words, names in (("not flagged", missed), ("flagged", wrong)):
        detail += f"; {words}: {', '.join(sorted(set(names)))}" if names else ""
    raw: dict[str, list[list[int]]] = {}
    for r in records:
        raw.setdefault(name(r), []).append(_series(r))
    passed = not missed and not wrong if records else None
    return Outcome(passed, measured, detail, {"series_bytes": raw})


def slopes(records: list[Record]) -> dict[str, float]:
    """Cell -> the median over its visits."""
    found: dict[str, list[float]] = {}
    for record in records:
        if "slope_bytes_per_call" in record["memory"]:
            found.setdefault(name(record), []).append(record["memory"]["slope_bytes_per_call"])
    return {cell: round(statistics.median(values)) for cell, values in found.items()}


def _series(record: Record) -> list[int]:
    """Bytes above the first reading."""
    series = record["memory"].get("series_bytes", [])
    return [value - series[0] for value in series]
