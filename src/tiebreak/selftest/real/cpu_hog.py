"""The row `hog`: a busy process beside a visit has to be noticed, and its absence too."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiebreak.bench.machine.contention import affinity
from tiebreak.bench.record import Record
from tiebreak.selftest.checks import Context, Outcome
from tiebreak.selftest.real import real

NOTICED, FALSE = 0.95, 0.05
PROBE = "update"
CPUS_PER_HOG = 8
"""One hog on two cores is hard to miss; on 64 it would be no disturbance."""
EFFORT = replace(real.EFFORT, steady_s=0.5)
"""Contention is read in hundredths of a second: half a second resolves 1 % on two cores."""
BUSY = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {cpus})
while os.getppid() == {parent}:
    for _ in range(100_000):
        pass
"""
"""Ends with the process that started it, however that ends."""


def hog(ctx: Context) -> Outcome:
    """Visits alone, beside hogs that run where they like, and beside one that stays on a core."""
    if not (installed := real.frameworks()):
        return Outcome(None, {}, "neither torch nor jax is installed")
    cells = tuple(real.cell(framework, PROBE, "") for framework in installed)
    counts: dict[str, Any] = {}
    for name, beside in company().items():
        blocks = ctx.count(1, 2, 6) if beside else ctx.count(1, 3, 10)
        ctx.say(f"{name}: {blocks} visits of each of {', '.join(installed)}")
        with contextlib.ExitStack() as stack:
            for cpus in beside:
                stack.enter_context(busy(cpus))
            counts[name] = noticed(real.race(ctx, name, cells, blocks, EFFORT))
    passed = judged(counts)
    detail = "; ".join(
        f"{name}: {found['contended']} of {found['visits']} flagged"
        + (f", {found['unfinished']} unfinished" if found["unfinished"] else "")
        for name, found in counts.items()
    )
    return Outcome(passed, counts, detail)


def judged(counts: Mapping[str, Mapping[str, int]]) -> bool:
    """The rule; visits beside hogs of either kind count together."""
    idle, beside = counts["idle"], [found for name, found in counts.items() if name != "idle"]
    missed = sum(found["visits"] - found["contended"] for found in beside)
    few = missed <= (1 - NOTICED) * sum(found["visits"] for found in beside)
    return few and idle["contended"] <= FALSE * idle["visits"] and not idle["unfinished"]


def company() -> dict[str, list[list[int]]]:
    """What runs beside the visits: for each hog, the CPUs that it may use."""
    cpus = affinity()
    out = {"idle": [], "hog": [cpus] * max(1, len(cpus) // CPUS_PER_HOG)}
    if hasattr(os, "sched_setaffinity") and len(cpus) > 1:
        out["pinned-hog"] = [cpus[:1]]
    return out


@contextlib.contextmanager
def busy(cpus: Sequence[int]) -> Iterator[None]:
    """A process that computes for as long as this lasts."""
    code = BUSY.format(parent=os.getpid(), cpus=list(cpus))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def noticed(records: Iterable[Record]) -> dict[str, Any]:
    """Visits, those flagged as contended, and those that did not finish, which count as missed."""
    found = real.visits(records)
    good = [r for r in found if r["status"] == "ok"]
    shares = [r["flags"]["contended"] for r in good if "contended" in r["flags"]]
    return {
        "visits": len(found),
        "contended": len(shares),
        "unfinished": len(found) - len(good),
        "least_share": min(shares, default=None),
    }
