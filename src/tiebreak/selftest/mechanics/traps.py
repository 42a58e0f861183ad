"""Check `traps`: visits that measure the wrong thing are flagged, honest ones are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiebreak.bench.manager import manager
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Cell, Effort, Plan, Scale
from tiebreak.selftest.base import Context, Outcome

SUBJECT = "tiebreak.selftest.workloads.cheating_workloads:make_subject"
MODES = {"linen": "jit", "torch": "compile", "tensorflow": "function"}
HONEST, HIDES, RETURNS = "honest", "hides its outputs", "returns its outputs"
CACHES = "leaves a cache"

TRAPS = {
    "shape grows": "recompiled",
    "int is static": "recompiled",
    "shape grows in every call": "recompiled",
    "update is dead code": "work_mismatch",
    "ignores its inputs": "work_mismatch",
    "skips updates": "work_mismatch",
    "inputs are zeros": "work_mismatch",
    "inputs are constant": "work_mismatch",
    "is out of memory": "oom",
}
"""Flag that each label must get, in every library. torch's ninth recompilation ends the visit:
afterwards torch would run eagerly, slowly and without a warning."""

KINDS = {*TRAPS.values(), "still_running", "fell_to_eager", "graph_break", "cache_not_cold"}
"""Flags that an honest visit must not have; flags of the machine, such as contended, are fine."""

BRIEF = Effort(
    sample_s=0.001, samples=20, steady_s=0.001, warmup_s=10.0, silent_calls=2, most_calls=1,
    memory_calls=0,
)  # fmt: skip
"""One call per sample: after 32 queued programs JAX waits on a CPU, which would undo the trap."""

WHOLE = (0.5, 2.0)
"""Accepted range of measured / true time of returned work, on a machine that others may use."""
PART = 0.2
"""Largest measured / true time of work with hidden outputs; above it, the trap did not work."""


Pair = tuple[str, str]
"""(framework, label)"""


def traps(ctx: Context) -> Outcome:
    """Run every trap in every library, then honest visits of the same work."""
    frameworks = ["linen"] if ctx.scale == "smoke" else list(MODES)
    return check(ctx, frameworks, list(TRAPS), ctx.count(1, 2, 4))


def check(ctx: Context, frameworks: Sequence[str], labels: Sequence[str], blocks: int) -> Outcome:
    """Run some traps in some frameworks, with `blocks` honest visits of each cell."""
    pairs = [(name, label) for name in frameworks for label in labels]
    planted = race(ctx, "traps", [*cells(pairs), *cells([("linen", HIDES)])], blocks=1)
    planted += stale(ctx)
    ctx.say(f"{len(planted)} traps measured")
    honest = cells([*((name, HONEST) for name in frameworks), ("linen", RETURNS)])
    control = race(ctx, "control", [*honest, *cells([("linen", HONEST)], "cold")], blocks)
    return judge(planted, control)


def judge(planted: list[Record], control: list[Record]) -> Outcome:
    """Judge the records of the traps and of the control."""
    missed = [name(r) for r in installed(planted) if not caught(r)]
    false = [
        name(r) for r in installed(control) if r["status"] != "ok" or KINDS & r["flags"].keys()
    ]
    hidden, returned = shares(planted, HIDES), shares(control, RETURNS)
    missing = {r["error"] for r in (*planted, *control) if r["status"] == "missing"}
    measured = {
        "traps": len(installed(planted)),
        "missed": len(missed),
        "control": len(installed(control)),
        "control_flagged": len(false),
        "share_seen_of_hidden_work": hidden,
        "share_seen_of_returned_work": returned,
    }
    whole = all(WHOLE[0] <= share <= WHOLE[1] for share in returned)
    passed = not missed and not false and whole and max(hidden, default=0) <= PART
    parts = [
        f"{len(installed(planted)) - len(missed)} of {len(installed(planted))} traps flagged",
        f"control {len(false)} of {len(installed(control))}",
        f"of work that is waited for {_range(returned)} is seen, of hidden work {_range(hidden)}",
        *(f"not flagged: {', '.join(missed)}" for _ in missed[:1]),
        *(f"flagged: {', '.join(false)}" for _ in false[:1]),
        *sorted(missing),
    ]
    flags = {name(r): [r["status"], r["flags"], r["error"]] for r in (*planted, *control)}
    return Outcome(passed if installed(planted) else None, measured, "; ".join(parts), flags)


def expected(record: Record) -> str:
    """Return the flag that a trap must get."""
    flags = {**TRAPS, HIDES: "still_running", CACHES: "cache_not_cold"}
    return flags[record["cell"]["label"]]


def caught(record: Record) -> bool:
    """Return True if a trap has its flag, and no value if it recompiled or did other work."""
    flag = expected(record)
    may_have_value = flag in ("still_running", "cache_not_cold")
    return flag in record["flags"] and (may_have_value or record["value_s"] is None)


def installed(records: list[Record]) -> list[Record]:
    """Return the records whose library is installed."""
    return [r for r in records if r["status"] != "missing"]


def name(record: Record) -> str:
    """Return framework and label."""
    cell = record["cell"]
    return f"{cell['framework']} {cell['label']}" + " cold" * (cell["cache"] == "cold")


def shares(records: list[Record], label: str) -> list[float]:
    """Return the measured time of programs as a share of their time when they are waited for.

    The smallest of each, because other work on the machine only adds to it.
    """
    timed = [r for r in installed(records) if r["cell"]["label"] == label and r["samples_s"]]
    return [
        round(min(r["samples_s"]) / r["calls_per_sample"] / r["work"]["program_s"], 4)
        for r in timed
    ]


def _range(values: list[float]) -> str:
    return f"{min(values):.0%} to {max(values):.0%}" if values else "nothing"


def race(
    ctx: Context, folder: str, cells: Sequence[Cell], blocks: int, **settings: Any
) -> list[Record]:
    """Measure cells with the ordinary manager; return the visits' records.

    settings: fields of Scale.
    """
    settings = {"certificate": False, "timeout_s": 120.0, "effort": BRIEF, **settings}
    plan = Plan(folder, ctx.scale, ctx.seed, Scale(blocks=blocks, **settings), tuple(cells))
    manager.run_plan(plan, ctx.folder / folder, subject=SUBJECT, progress=False)
    return [r for r in read_records(ctx.folder / folder) if r["kind"] == "visit"]


def stale(ctx: Context) -> list[Record]:
    """Measure two cold probes in one process; return the second, which finds a filled cache."""
    first = cells([("linen", CACHES)], "cold")
    both = [*first, *(replace(cell, probe="train") for cell in first)]
    records = race(ctx, "stale", both, blocks=1, share_process=True)
    return [r for r in records if r["cell"]["probe"] == r["order"][-1]]


def cells(
    pairs: Iterable[Pair], cache: str = "warm", modes: Mapping[str, str] = MODES
) -> list[Cell]:
    """Return cells of the workloads with these labels."""
    return [
        Cell(
            algorithm="ppo",
            framework=name,
            mode=modes[name],
            task="gymnasium/CartPole-v1",
            loop="host",
            probe="update",
            cache=cache,
            label=label,
        )
        for name, label in pairs
    ]
