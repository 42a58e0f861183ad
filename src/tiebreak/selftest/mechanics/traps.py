"""Visits that would measure the wrong thing: each is flagged, and honest ones are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiebreak.bench.manager import manager
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Cell, Effort, Plan, Scale
from tiebreak.selftest.checks import Context, Outcome

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
"""Label -> the flag that it must get, in every library. What torch compiles for the ninth time
ends the visit: it would run as it is, and be slow without a word."""

KINDS = {*TRAPS.values(), "still_running", "fell_to_eager", "graph_break", "cache_not_cold"}
"""The flags that an honest visit may not have; the machine's own, as contended, it may."""

BRIEF = Effort(
    sample_s=0.001, samples=20, steady_s=0.001, warmup_s=10.0, silent_calls=2, most_calls=1,
    memory_calls=0,
)  # fmt: skip
"""One call a sample: JAX queues 32 programs on a CPU and then waits, which would undo the trap."""

WHOLE = (0.5, 2.0)
"""What is measured of work that takes 1, on a machine that others may use meanwhile."""
PART = 0.2
"""At most so much is seen of work whose outputs are hidden, or it was no trap."""


Pair = tuple[str, str]
"""(framework, label)"""


def traps(ctx: Context) -> Outcome:
    """Every trap in every library that is here, then honest visits of the same work."""
    frameworks = ["linen"] if ctx.scale == "smoke" else list(MODES)
    return check(ctx, frameworks, list(TRAPS), ctx.count(1, 2, 4))


def check(ctx: Context, frameworks: Sequence[str], labels: Sequence[str], blocks: int) -> Outcome:
    """The row for some frameworks and traps, with so many honest visits of each cell."""
    pairs = [(name, label) for name in frameworks for label in labels]
    planted = race(ctx, "traps", [*cells(pairs), *cells([("linen", HIDES)])], 1)
    planted += stale(ctx)
    ctx.say(f"{len(planted)} traps set")
    honest = cells([*((name, HONEST) for name in frameworks), ("linen", RETURNS)])
    control = race(ctx, "control", [*honest, *cells([("linen", HONEST)], "cold")], blocks)
    return judge(planted, control)


def judge(planted: list[Record], control: list[Record]) -> Outcome:
    """What the records of both races say."""
    missed = [name(r) for r in there(planted) if not caught(r)]
    false = [name(r) for r in there(control) if r["status"] != "ok" or KINDS & r["flags"].keys()]
    hidden, returned = shares(planted, HIDES), shares(control, RETURNS)
    absent = {r["error"] for r in (*planted, *control) if r["status"] == "missing"}
    measured = {
        "traps": len(there(planted)),
        "missed": len(missed),
        "control": len(there(control)),
        "control_flagged": len(false),
        "share_seen_of_hidden_work": hidden,
        "share_seen_of_returned_work": returned,
    }
    whole = all(WHOLE[0] <= share <= WHOLE[1] for share in returned)
    passed = not missed and not false and whole and max(hidden, default=0) <= PART
    parts = [
        f"{len(there(planted)) - len(missed)} of {len(there(planted))} traps flagged",
        f"control {len(false)} of {len(there(control))}",
        f"of work that is waited for {_range(returned)} is seen, of hidden work {_range(hidden)}",
        *(f"not flagged: {', '.join(missed)}" for _ in missed[:1]),
        *(f"flagged: {', '.join(false)}" for _ in false[:1]),
        *sorted(absent),
    ]
    flags = {name(r): [r["status"], r["flags"], r["error"]] for r in (*planted, *control)}
    return Outcome(passed if there(planted) else None, measured, "; ".join(parts), flags)


def expected(record: Record) -> str:
    """The flag that a trap has to get."""
    flags = {**TRAPS, HIDES: "still_running", CACHES: "cache_not_cold"}
    return flags[record["cell"]["label"]]


def caught(record: Record) -> bool:
    """Whether a trap has its flag, and no value if it compiled or did other work than it said."""
    flag = expected(record)
    may_have_value = flag in ("still_running", "cache_not_cold")
    return flag in record["flags"] and (may_have_value or record["value_s"] is None)


def there(records: list[Record]) -> list[Record]:
    """Those whose library is installed."""
    return [r for r in records if r["status"] != "missing"]


def name(record: Record) -> str:
    """Framework and label."""
    cell = record["cell"]
    return f"{cell['framework']} {cell['label']}" + " cold" * (cell["cache"] == "cold")


def shares(records: list[Record], label: str) -> list[float]:
    """What was measured of a program, as a share of what it takes when it is waited for.

    The least of each: what else the machine does only adds to them.
    """
    timed = [r for r in there(records) if r["cell"]["label"] == label and r["samples_s"]]
    return [
        round(min(r["samples_s"]) / r["calls_per_sample"] / r["work"]["program_s"], 4)
        for r in timed
    ]


def _range(values: list[float]) -> str:
    return f"{min(values):.0%} to {max(values):.0%}" if values else "nothing"


def race(ctx: Context, folder: str, of: Sequence[Cell], blocks: int, **how: Any) -> list[Record]:
    """Visits of these cells, by the ordinary manager; their records. `how`: fields of Scale."""
    about = {"certificate": False, "timeout_s": 120.0, "effort": BRIEF, **how}
    plan = Plan(folder, ctx.scale, ctx.seed, Scale(blocks=blocks, **about), tuple(of))
    manager.run_plan(plan, ctx.folder / folder, subject=SUBJECT, progress=False)
    return [r for r in read_records(ctx.folder / folder) if r["kind"] == "visit"]


def stale(ctx: Context) -> list[Record]:
    """The second of two cold probes that share a process: it finds what the first compiled."""
    first = cells([("linen", CACHES)], "cold")
    both = [*first, *(replace(cell, probe="train") for cell in first)]
    records = race(ctx, "stale", both, 1, share_process=True)
    return [r for r in records if r["cell"]["probe"] == r["order"][-1]]


def cells(
    pairs: Iterable[Pair], cache: str = "warm", modes: Mapping[str, str] = MODES
) -> list[Cell]:
    """Cells of the subjects that these labels name."""
    about: dict[str, Any] = {"algorithm": "ppo", "task": "gymnasium/CartPole-v1", "probe": "update"}
    return [
        Cell(**about, framework=name, mode=modes[name], loop="host", cache=cache, label=label)
        for name, label in pairs
    ]
