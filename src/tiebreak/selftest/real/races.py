"""Measure real visits for a check: plans built in code, run by the ordinary manager.

Raw samples stay in the check's folder as ordinary results folders, one for each plan. A plan whose
results are complete is not run again, so that an interrupted check can continue.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.bench.machine.availability import required_packages
from tiebreak.bench.manager.manager import run_plan
from tiebreak.bench.manager.store import RECORDS, read_records
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Cell, Effort, Plan, Scale
from tiebreak.core.seeding import derive
from tiebreak.selftest.base import Context

SUBJECT = "tiebreak.selftest.workloads.planted_work:make_subject"
MODES = {"torch": "eager", "linen": "jit"}
"""Modes to measure: torch has finished when a call returns, JAX has only begun."""
TASK = "gymnasium/CartPole-v1"
CONFIG = {"num_steps": 8, "num_minibatches": 1, "num_epochs": 1}
"""Small, so that a visit's time goes into its samples and not into one long iteration."""
EFFORT = Effort(
    sample_s=0.04, samples=5, steady_s=0.2, longest_s=5.0, silent_calls=2, warmup_s=2.0,
    memory_calls=0,
)  # fmt: skip
"""Short samples, because their evaluation is tested; bounded, in case other programs run."""


def frameworks() -> list[str]:
    """Return the frameworks of MODES that are installed."""
    packages = {name: required_packages(cell(name, "update", "")) for name in MODES}
    return [name for name in MODES if not registry.missing_packages(packages[name])]


def cell(framework: str, probe: str, label: str) -> Cell:
    """Return a cell of PPO on CartPole with four environments."""
    mode = MODES[framework]
    return Cell("ppo", framework, mode, TASK, "host", probe, num_envs=4, label=label, config=CONFIG)


def cells(framework: str, probes: Iterable[str], labels: Sequence[str]) -> tuple[Cell, ...]:
    """Return a cell for every probe and label."""
    return tuple(cell(framework, probe, label) for probe in probes for label in labels)


def race(
    ctx: Context,
    name: str,
    cells: tuple[Cell, ...],
    blocks: int,
    effort: Effort = EFFORT,
    subject: str = "",
) -> list[Record]:
    """Measure cells in `blocks` blocks, probes sharing a process; return all records.

    `subject` replaces SUBJECT, the workload.
    """
    settings = Scale(
        blocks=blocks, share_process=True, certificate=False, effort=effort,
        timeout_s=120.0 + effort.longest_s,  # a slow machine is not a failure
    )  # fmt: skip
    plan = Plan(f"self-test {name}", ctx.scale, derive(ctx.seed, name), settings, cells)
    folder = ctx.folder / name
    if not _is_complete(plan, folder):
        shutil.rmtree(folder, ignore_errors=True)
        run_plan(plan, folder, subject=subject or SUBJECT, progress=False)
    return read_records(folder)


def visits(records: Iterable[Record]) -> list[Record]:
    """Return the visits among records."""
    return [r for r in records if r["kind"] == "visit"]


def failures(records: Iterable[Record]) -> dict[str, int]:
    """Count unfinished visits by reason; a check with any of them fails."""
    counts: dict[str, int] = {}
    for r in visits(records):
        if r["status"] != "ok":
            reason = f"{r['status']}: {r['error']}"
            counts[reason] = counts.get(reason, 0) + 1
    return counts


def disturbance(records: Iterable[Record]) -> dict[str, Any]:
    """Count visits, those flagged as contended, and failures: how quiet the machine was."""
    records = list(records)
    flagged = sum("contended" in r["flags"] for r in visits(records))
    counts: dict[str, Any] = {"visits": len(visits(records)), "contended": flagged}
    if failed := failures(records):
        counts["failures"] = failed
    return counts


def describe_disturbance(counts: dict[str, Any]) -> str:
    """Return the counts of `disturbance` as the end of a line."""
    failed = sum(counts.get("failures", {}).values())
    share = f"{counts['contended']} of {counts['visits']} measurements on a contended machine"
    return share + (f", {failed} FAILED" if failed else "")


def _is_complete(plan: Plan, folder: Path) -> bool:
    if not (folder / RECORDS).is_file():
        return False
    done = {(r["block"], r["cell_id"]) for r in visits(read_records(folder))}
    return all((b, c.id) in done for b in range(plan.settings.blocks) for c in plan.cells)


def most_by_chance(trials: int, probability: float) -> int:
    """Return the 99 % quantile of the binomial distribution: more events are no longer chance.

    It is 18 for 200 trials at 5 %, the limit for real A/A pairs.
    """
    from scipy import special

    k = 0
    while special.bdtr(k, trials, probability) < 0.99:
        k += 1
    return k
