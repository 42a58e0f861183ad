"""Check `hog`: visits are flagged as contended beside a busy process, and only then."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiebreak.bench.record import Record
from tiebreak.core.process_env import affinity
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.real import races

NOTICED = 0.95
"""Least share of visits beside a hog that are flagged as contended."""
FALSE_ALARMS = 0.05
"""Largest share of other visits that are flagged."""
PROBE = "update"
CPUS_PER_HOG = 8
"""One hog for this many CPUs: on two it is hard to miss, on 64 it would not disturb."""
EFFORT = replace(races.EFFORT, steady_s=0.5)
"""Contention is counted in hundredths of a second: half a second resolves 1 % on two cores."""
BUSY = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {cpus})
while os.getppid() == {parent}:
    for _ in range(100_000):
        pass
"""
"""Code of a hog; it ends with the process that started it, however that ends."""


def hog(ctx: Context) -> Outcome:
    """Measure visits alone, beside hogs on any CPU, and beside one that is pinned to a CPU."""
    if not (installed := races.frameworks()):
        return Outcome(None, {}, "neither torch nor jax is installed")
    cells = tuple(races.cell(framework, PROBE, "") for framework in installed)
    counts: dict[str, Any] = {}
    for name, hogs in hog_cpus().items():
        blocks = ctx.count(1, 2, 6) if hogs else ctx.count(1, 3, 10)
        ctx.say(f"{name}: {blocks} visits of each of {', '.join(installed)}")
        with contextlib.ExitStack() as stack:
            for cpus in hogs:
                stack.enter_context(busy(cpus))
            counts[name] = count_flagged(races.race(ctx, name, cells, blocks, EFFORT))
    passed = is_passed(counts)
    detail = "; ".join(
        f"{name}: {count['contended']} of {count['visits']} flagged"
        + (f", {count['unfinished']} unfinished" if count["unfinished"] else "")
        for name, count in counts.items()
    )
    return Outcome(passed, counts, detail)


def is_passed(counts: Mapping[str, Mapping[str, int]]) -> bool:
    """Apply the rule; visits beside hogs of either kind count together."""
    idle = counts["idle"]
    beside_hogs = [count for name, count in counts.items() if name != "idle"]
    missed = sum(count["visits"] - count["contended"] for count in beside_hogs)
    few_missed = missed <= (1 - NOTICED) * sum(count["visits"] for count in beside_hogs)
    return (
        few_missed and idle["contended"] <= FALSE_ALARMS * idle["visits"] and not idle["unfinished"]
    )


def hog_cpus() -> dict[str, list[list[int]]]:
    """Return for each condition a list of hogs, and for each hog the CPUs that it may use."""
    cpus = affinity()
    conditions = {"idle": [], "hog": [cpus] * max(1, len(cpus) // CPUS_PER_HOG)}
    if hasattr(os, "sched_setaffinity") and len(cpus) > 1:
        conditions["pinned-hog"] = [cpus[:1]]
    return conditions


@contextlib.contextmanager
def busy(cpus: Sequence[int]) -> Iterator[None]:
    """Run a hog on these CPUs while the context lasts."""
    code = BUSY.format(parent=os.getpid(), cpus=list(cpus))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def count_flagged(records: Iterable[Record]) -> dict[str, Any]:
    """Count visits, those flagged as contended, and unfinished ones, which count as missed."""
    visits = races.visits(records)
    finished = [r for r in visits if r["status"] == "ok"]
    shares = [r["flags"]["contended"] for r in finished if "contended" in r["flags"]]
    return {
        "visits": len(visits),
        "contended": len(shares),
        "unfinished": len(visits) - len(finished),
        "least_share": min(shares, default=None),
    }
