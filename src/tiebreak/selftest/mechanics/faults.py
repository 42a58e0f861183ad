"""Check `faults`: workers fail in every way; each failure is recorded, no other cell suffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.bench.machine.availability import required_packages
from tiebreak.bench.manager import manager
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.manager.worker_process import LOG_BYTES
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Cell, Effort, Plan, Scale
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.mechanics.process_tracking import Marked, why_untrackable

SUBJECT = "tiebreak.selftest.workloads.crashing_workloads:make_subject"
BRIEF = Effort(
    sample_s=0.001, samples=3, steady_s=0.001, warmup_s=0.01, silent_calls=2, memory_calls=0
)
FINE = ("fine", "also fine")
"""Labels of cells without a fault."""
TIMEOUT_S = 15.0
"""Time limit of a visit that takes some hundredths of a second, on a busy machine."""


class Expected(NamedTuple):
    """How a fault must be recorded."""

    status: str
    reason: str
    """Text of the error or, if the visit succeeds, of the field `fault`; empty if there is none."""
    flag: str = ""


EXPECTED = {
    "exits": Expected("crash", "status 1", "crash"),
    "segfaults": Expected("crash", "SIGSEGV", "crash"),
    "is out of memory": Expected("oom", "MemoryError", "oom"),
    "hangs": Expected("timeout", f"no result within {TIMEOUT_S:g} s", "timeout"),
    "leaves a child": Expected("ok", ""),
    "leaves a daemon": Expected("ok", ""),
    "floods": Expected("crash", "status 1", "crash"),
    "sends half": Expected("crash", "breaks off", "crash"),
    "sends nan": Expected("crash", "not finite", "crash"),
    "diverges": Expected("failed", "not finite: loss", "nan"),
    "sends twice": Expected("ok", "twice"),
}


def faults(ctx: Context) -> Outcome:
    """Run every fault in one race with two cells that do their work."""
    if reason := why_untrackable() or why_unavailable():
        return Outcome(None, {}, reason)
    return check(ctx.folder, tuple(EXPECTED), ctx.count(1, 1, 4), ctx.seed)


def check(folder: Path, labels: tuple[str, ...], blocks: int, seed: int) -> Outcome:
    """Run some of the faults in some blocks, and check their records."""
    planned = plan((*FINE, *labels), blocks, seed)
    with Marked(folder) as marked, marked.mark_children():
        manager.run_plan(planned, folder / "race", subject=SUBJECT, progress=False)
        survivors = marked.survivors()
    records = [r for r in read_records(folder / "race") if r["kind"] == "visit"]
    wrong = [f"{r['cell']['label']}: {why}" for r in records if (why := misrecorded(r))]
    keys = {(r["block"], r["cell_id"]) for r in records}
    logs = [file.stat().st_size for file in (folder / "race").glob("logs/*")]
    measured = {
        "faults": len(labels) * blocks,
        "recorded_rightly": sum(
            r["cell"]["label"] in EXPECTED and not misrecorded(r) for r in records
        ),
        "visits": len(keys),
        "recorded_wrongly": len(wrong),
        "missing": len(planned.cells) * blocks - len(keys),
        "repeated": len(records) - len(keys),
        "others_complete": sum(r["status"] == "ok" and r["cell"]["label"] in FINE for r in records),
        "others": len(FINE) * blocks,
        "survivors": len(survivors),
        "largest_log_bytes": max(logs, default=0),
    }
    errors = [measured[k] for k in ("recorded_wrongly", "missing", "repeated", "survivors")]
    passed = not any(errors) and measured["largest_log_bytes"] <= LOG_BYTES
    raw = {
        "recorded_wrongly": wrong,
        "survivors": list(survivors.values()),
        "seen": latest_by_label(records),
    }
    return Outcome(passed, measured, _detail(measured, wrong, survivors), raw)


def misrecorded(record: Record) -> str:
    """Return what is wrong with a record; empty if it is as expected."""
    label = record["cell"]["label"]
    status, reason, flag = EXPECTED.get(label, Expected("ok", ""))
    actual = record["error"] or record.get("fault", "")
    if record["status"] != status:
        return f"has status {record['status']!r}, not {status!r} ({actual})"
    if reason not in actual or bool(reason) != bool(actual):
        return f"says {actual!r}, not {reason!r}"
    if flag and flag not in record["flags"]:
        return f"is not flagged {flag!r}"
    if status == "ok" and not record["value_s"]:
        return "has no value"
    return ""


def latest_by_label(records: list[Record]) -> dict[str, dict[str, Any]]:
    """Return status, error, fault and flags of the last record of each label."""
    kept = ("status", "error", "fault", "flags")
    return {r["cell"]["label"]: {k: r[k] for k in kept if k in r} for r in records}


def _detail(measured: Mapping[str, int], wrong: list[str], survivors: Mapping[int, str]) -> str:
    text = (
        f"{measured['recorded_rightly']} of {measured['faults']} recorded "
        f"with the reason, {measured['others_complete']} of {measured['others']} others done, "
        f"{measured['survivors']} processes survived"
    )
    return "; ".join([text, *wrong[:1], *list(survivors.values())[:1]])


def plan(labels: tuple[str, ...], blocks: int, seed: int) -> Plan:
    """Return a race of cells that need no framework."""
    first = Cell("ppo", "numpy", "", "gymnasium/CartPole-v1", "host", "env")
    cells = tuple(replace(first, label=label) for label in labels)
    settings = Scale(blocks=blocks, certificate=False, timeout_s=TIMEOUT_S, effort=BRIEF)
    return Plan("faults", "full", seed, settings, cells)


def why_unavailable() -> str:
    """Return which packages of these checks are not installed; empty if all are."""
    missing = registry.missing_packages(required_packages(plan(FINE[:1], 1, 0).cells[0]))
    return f"needs {', '.join(missing)}, not installed here" if missing else ""
