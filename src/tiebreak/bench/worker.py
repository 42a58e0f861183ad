"""The fresh process of one visit: `python -m tiebreak.bench.worker JOB FD`, started by process.py.

JOB is a JSON file that says what to measure, FD the open pipe for results: one JSON line per cell.
Order matters: affinity and fence before any import, import before threads, threads before use.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.bench import steady
from tiebreak.bench.clock import Timer
from tiebreak.bench.machine import Contention, affinity, contended
from tiebreak.bench.record import FAILED, dumps, one_line
from tiebreak.bench.steady import Effort, Timed
from tiebreak.core import fence

SUBJECT = "tiebreak.bench.probes:make_subject"


def main(arguments: list[str]) -> int:
    """Do the job; every cell gets a result, or the process a traceback."""
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    fd = int(arguments[1])
    _die_with_parent(job["manager_pid"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cpus"])
    fence.install(job["packages"])
    try:
        subject, phases = _prepare(job)
    except Exception as error:
        for cell in job["cells"]:
            _send(fd, cell["id"], _failure(error))
        return 1
    for cell in job["cells"]:  # one probe that fails leaves the others their chance
        try:
            result = measure(
                subject, cell["probe"], Effort(**job["effort"]), job["calls"].get(cell["id"])
            )
            result["phases_s"] = {**phases, **result["phases_s"]}
            parity(result, cell, job["threads"])
        except Exception as error:
            result = _failure(error)
        _send(fd, cell["id"], result)
    subject.close()
    return 0


def _prepare(job: Mapping[str, Any]) -> tuple[Any, dict[str, float]]:
    """The subject, imported and built, and the seconds that each took."""
    timer = Timer()
    module, _, name = (job["subject"] or SUBJECT).partition(":")
    subject = getattr(registry.load(module), name)(job)
    subject.load()
    phases = {"import": timer.lap_s()}
    subject.build()
    phases["build"] = timer.lap_s()
    return subject, phases


def _failure(error: Exception) -> dict[str, Any]:
    """A result that says in one line what went wrong; the traceback goes to the log."""
    traceback.print_exception(error)
    return {**FAILED, "status": "failed", "error": one_line(f"{type(error).__name__}: {error}")}


def measure(subject: Any, name: str, effort: Effort, calls: int | None) -> dict[str, Any]:
    """One probe, from its first call to its proof of work, as a result.

    `calls` is the number of calls in a sample, frozen by an earlier visit; None calibrates.
    """
    probe = subject.probe(name)
    made, output = [0], [None]

    def call() -> Any:
        made[0] += 1
        output[0] = probe.call()
        return output[0]

    counted, before = probe.counted(), _checksum(probe)
    timed = Timed(call, probe.held, subject.sync)
    warmup = steady.warm_up(timed, subject.compile_count, effort)
    n = calls or steady.calibrate(timed, effort)
    result = {**FAILED, "status": "ok", "error": "", "unit": probe.unit, "calls_per_sample": n}
    result |= _sample(timed, subject.compile_count, effort, n)
    if warmup.silent == 0:
        result["flags"]["recompiled"] = result["flags"].get("recompiled", 0) + 1
    times = {"first_call": warmup.first_call_s, "warmup": warmup.rest_s}
    result["phases_s"] = {**times, **result["phases_s"]}
    units = n * probe.units_per_call
    result |= {
        "warmup_calls": warmup.calls,
        "units_per_sample": units,
        "value_s": statistics.median(result["samples_s"]) / units,
        "memory": {"rss_peak_bytes": _peak_bytes(), **subject.memory()},
        "settings": subject.settings(),
    }
    prove(result, probe, made[0], counted, before, output[0])
    return result


def _sample(timed: Timed, compile_count: Any, effort: Effort, n: int) -> dict[str, Any]:
    """The steady phase: samples, and what disturbed them."""
    compiled, others, timer = compile_count(), Contention(), Timer()
    samples = steady.sample(timed, n, effort)
    seconds, shares = timer.elapsed_s(), others.read()
    flags = steady.flags(samples, effort)
    if recompiled := compile_count() - compiled:
        flags["recompiled"] = recompiled
    if share := contended(shares):
        flags["contended"] = round(share, 4)
    phases = {"steady": seconds}
    return {"samples_s": samples, "phases_s": phases, "flags": flags, "contention": shares}


def prove(
    result: dict[str, Any],
    probe: Any,
    calls: int,
    counted: Mapping[str, int],
    before: str,
    output: Any,
) -> None:
    """Compare the work that was counted with the work that was asked for; into `result`."""
    work = {k: v - counted[k] for k, v in probe.counted().items()}
    missing = {k: work[k] - calls * n for k, n in probe.expected.items() if work[k] != calls * n}
    after = _checksum(probe)
    numbers = probe.numbers(output)
    bad = [name for name, value in numbers.items() if value - value != 0]
    result["work"] = {
        **work, "calls": calls, "weights_sha256": after,
        **{k: None if k in bad else v for k, v in numbers.items()},
    }  # fmt: skip
    reason = ""
    if missing:
        name, short = next(iter(missing.items()))
        result["flags"]["work_mismatch"] = short
        reason = f"{name} differ by {short} from what {calls} calls should have done"
    elif probe.learns and after == before:
        result["flags"]["work_mismatch"] = 0
        reason = f"{calls} calls left the weights as they were"
    elif bad:
        result["flags"]["nan"] = len(bad)
        reason = f"not finite: {', '.join(bad)}"
    if reason:
        result.update(status="failed", error=reason, samples_s=[], value_s=None)


def parity(result: dict[str, Any], cell: Mapping[str, Any], threads: int) -> None:
    """Flag settings that, read back, are not what was asked for."""
    settings = result["settings"]
    asked: dict[str, Any] = dict.fromkeys(("threads", "intra_op_threads"), threads)
    asked |= {"interop_threads": 1, "inter_op_threads": 1, "precision": cell["precision"]}
    wrong = {k: settings[k] for k, v in asked.items() if settings.get(k, v) != v}
    if len(affinity()) != threads:
        wrong["affinity"] = len(affinity())
    if wrong:
        result["flags"]["parity_mismatch"] = ", ".join(f"{k} {v}" for k, v in wrong.items())


def _checksum(probe: Any) -> str:
    from tiebreak.bench.probes import checksum

    weights = probe.weights()
    return checksum(weights) if weights else ""


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _send(fd: int, cell_id: str, result: Mapping[str, Any]) -> None:
    data = memoryview(dumps({"cell_id": cell_id, "result": result}).encode() + b"\n")
    while data:
        data = data[os.write(fd, data) :]


def _die_with_parent(manager_pid: int) -> None:
    """Linux: end with the manager, however that ends."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != manager_pid:
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
