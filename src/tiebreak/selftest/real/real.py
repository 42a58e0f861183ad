"""What rows of real visits share: plans built in code, run by the ordinary manager into a folder.

Raw samples stay in the row's folder as ordinary results folders, one for each plan. A plan that is
there, complete, is not run again: that is how an interrupted row goes on.
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
from tiebreak.selftest.checks import Context

SUBJECT = "tiebreak.selftest.workloads.planted_work:make_subject"
MODES = {"torch": "eager", "linen": "jit"}
"""One runtime that has finished when a call returns, and one that has only begun."""
TASK = "gymnasium/CartPole-v1"
CONFIG = {"num_steps": 8, "num_minibatches": 1, "num_epochs": 1}
"""Small: a visit's time goes into its samples, not into one long iteration."""
EFFORT = Effort(
    sample_s=0.04, samples=5, steady_s=0.2, longest_s=5.0, silent_calls=2, warmup_s=2.0,
    memory_calls=0,
)  # fmt: skip
"""Short samples: what is tested is what is made of them. Bounded, should something else run."""


def frameworks() -> list[str]:
    """Those of MODES that are installed here."""
    needed = {name: required_packages(cell(name, "update", "")) for name in MODES}
    return [name for name in MODES if not registry.missing_packages(needed[name])]


def cell(framework: str, probe: str, label: str) -> Cell:
    """A cell of PPO on CartPole, four environments."""
    mode = MODES[framework]
    return Cell("ppo", framework, mode, TASK, "host", probe, num_envs=4, label=label, config=CONFIG)


def cells(framework: str, probes: Iterable[str], labels: Sequence[str]) -> tuple[Cell, ...]:
    """Every probe under every label."""
    return tuple(cell(framework, probe, label) for probe in probes for label in labels)


def race(
    ctx: Context, name: str, cells: tuple[Cell, ...], blocks: int, effort: Effort = EFFORT
) -> list[Record]:
    """All records of a plan that measures `cells` in `blocks` blocks, probes sharing a process."""
    settings = Scale(
        blocks=blocks, share_process=True, certificate=False, effort=effort,
        timeout_s=120.0 + effort.longest_s,  # a slow hour is no failure
    )  # fmt: skip
    plan = Plan(f"self-test {name}", ctx.scale, derive(ctx.seed, name), settings, cells)
    folder = ctx.folder / name
    if not _complete(plan, folder):
        shutil.rmtree(folder, ignore_errors=True)
        run_plan(plan, folder, subject=SUBJECT, progress=False)
    return read_records(folder)


def visits(records: Iterable[Record]) -> list[Record]:
    """The visits among records."""
    return [r for r in records if r["kind"] == "visit"]


def failures(records: Iterable[Record]) -> dict[str, int]:
    """Why visits did not finish, and how many: a row of real visits passes only without."""
    out: dict[str, int] = {}
    for r in visits(records):
        if r["status"] != "ok":
            reason = f"{r['status']}: {r['error']}"
            out[reason] = out.get(reason, 0) + 1
    return out


def disturbance(records: Iterable[Record]) -> dict[str, Any]:
    """How quiet the machine was: visits, those flagged as contended, and those that failed."""
    records = list(records)
    flagged = sum("contended" in r["flags"] for r in visits(records))
    counts: dict[str, Any] = {"visits": len(visits(records)), "contended": flagged}
    if failed := failures(records):
        counts["failures"] = failed
    return counts


def told(counts: dict[str, Any]) -> str:
    """`disturbance` as the end of a line."""
    failed = sum(counts.get("failures", {}).values())
    share = f"{counts['contended']} of {counts['visits']} measurements on a contended machine"
    return share + (f", {failed} FAILED" if failed else "")


def _complete(plan: Plan, folder: Path) -> bool:
    if not (folder / RECORDS).is_file():
        return False
    done = {(r["block"], r["cell_id"]) for r in visits(read_records(folder))}
    return all((b, c.id) in done for b in range(plan.settings.blocks) for c in plan.cells)


def surprising(trials: int, chance: float) -> int:
    """The most events in `trials` that chance alone explains: more of them come once in a hundred.

    18 for 200 trials at 5 %, which is the protocol's figure for real A/A pairs.
    """
    from scipy import special

    k = 0
    while special.bdtr(k, trials, chance) < 0.99:
        k += 1
    return k
