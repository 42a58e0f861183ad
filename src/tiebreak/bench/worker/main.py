"""The fresh process of one visit: `python -m tiebreak.bench.worker.main JOB FD`.

JOB is a JSON file that says what to measure, FD the open pipe for results: one JSON line per cell.
Order matters: affinity and fence before any import, import before threads, threads before use.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import statistics
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.bench.machine.machine import contended, throttled
from tiebreak.bench.manager.record import FAILED, dumps, one_line
from tiebreak.bench.worker import memory, sampling
from tiebreak.bench.worker.clock import Timer
from tiebreak.bench.worker.sampling import Effort, Timed
from tiebreak.bench.worker.turns import Turns
from tiebreak.bench.worker.work_checks import Work, fail, parity
from tiebreak.core import import_guard
from tiebreak.core.errors import MissingDependency, MissingDevice
from tiebreak.frameworks.runtime import Retraced, retraced

SUBJECT = "tiebreak.bench.probes.subject:make_subject"

ADVICE = "Give every call the same shapes, dtypes and Python values"


def main(arguments: list[str]) -> int:
    """Do the job; every cell gets a result, or the process a traceback."""
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    fd, events = map(int, arguments[1:3])
    _die_with_parent(job["manager_pid"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cpus"])
    import_guard.install(registry.allowed_imports(job["packages"]))
    try:
        subject, phases = _prepare(job)
    except Exception as error:
        for cell in job["cells"]:
            _send(fd, cell["id"], _failure(error))
        return 1
    for cell in job["cells"]:  # one probe that fails leaves the others their chance
        try:
            result = measure(
                subject, cell["probe"], Effort(**job["effort"]), job["calls"].get(cell["id"]),
                _turns(events, cell["id"], job["turns"]), job["stretch"],
            )  # fmt: skip
            result["phases_s"] = {**phases, **result["phases_s"]}
            if result["settings"]:
                parity(result, cell, job)
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
    if isinstance(error, MissingDependency | MissingDevice):
        return {**FAILED, "status": "missing", "error": one_line(str(error))}
    return {**FAILED, "status": "failed", "error": one_line(f"{type(error).__name__}: {error}")}


def measure(
    subject: Any,
    name: str,
    effort: Effort,
    calls: int | None,
    turns: Turns | None = None,
    stretch: int = 0,
) -> dict[str, Any]:
    """One probe, from its first call to its proof of work, as a result.

    `calls` is the number of calls in a sample, frozen by an earlier visit; None calibrates.
    `turns` are the steady phase's; None has the machine to itself, and no second clock.
    `stretch` samples follow without a pause between them: work that outlives each piles up.
    """
    timer, probe = Timer(), subject.probe(name)
    work = Work(probe)
    timed = Timed(work.call, probe.held, subject.sync)
    result = {**FAILED, "status": "ok", "error": "", "unit": probe.unit, "flags": {}}
    result |= {"phases_s": {"proof": timer.elapsed_s()}, "samples_s": []}
    compiled, lock = subject.compile_count, getattr(subject, "lock", contextlib.nullcontext)
    if probe.compiles:  # in every call: it is never silent, and must not be locked
        compiled, lock = (lambda: 0), contextlib.nullcontext
    try:
        _warm_up(result, timed, compiled, effort)
        with lock():
            _sample(result, timed, compiled, effort, calls, turns or Turns())
    except Exception as error:
        if not retraced(error):
            raise
        fail(result, "recompiled", 1, one_line(f"{error}. {ADVICE}"))
        return result
    _value(result, probe, effort, turns is not None and turns.shared)
    _afterwards(result, subject, timed, effort, stretch)
    if slope := memory.grows(result["memory"], probe.compiles):
        result["flags"]["memory_growing"] = round(slope)
    timer.lap_s()
    work.prove(result)
    result["phases_s"]["proof"] += timer.lap_s()
    return result


def _warm_up(
    result: dict[str, Any], timed: Timed, compile_count: Callable[[], int], effort: Effort
) -> None:
    """The first call, and those until nothing compiles any more; into `result`."""
    warmup = sampling.warm_up(timed, compile_count, effort)
    result["phases_s"] |= {"first_call": warmup.first_call_s, "warmup": warmup.rest_s}
    result["warmup_calls"] = warmup.calls
    if warmup.silent == 0:
        raise Retraced(f"still compiling in call {warmup.calls}")


def _sample(
    result: dict[str, Any],
    timed: Timed,
    compile_count: Callable[[], int],
    effort: Effort,
    calls: int | None,
    turns: Turns,
) -> None:
    """The steady phase: samples, and who else was using the CPU; into `result`."""
    compiled, samples = compile_count(), result["samples_s"]
    result["calls_per_sample"] = n = calls or sampling.calibrate(timed, effort)
    gc.collect()
    try:
        sampling.sample(timed, n, effort, samples, turns, lambda: compile_count() > compiled)
    finally:
        turns.over()
        result["phases_s"]["steady"] = turns.steady_s
    result["contention"] = shares = turns.others()
    if turns.ran_on:
        result["flags"]["still_running"] = round(turns.ran_on, 3)
    if share := contended(shares):
        result["flags"]["contended"] = round(share, 4)
    if share := throttled(shares):
        result["flags"]["throttled"] = round(share, 4)
    if recompiled := compile_count() - compiled:
        reason = f"compiled {recompiled} times after warm-up. {ADVICE}"
        fail(result, "recompiled", recompiled, reason)


def _value(result: dict[str, Any], probe: Any, effort: Effort, shared: bool) -> None:
    """What the samples say; into `result`."""
    samples, units = result["samples_s"], result["calls_per_sample"] * probe.units_per_call
    result["units_per_sample"] = units
    result["flags"] |= sampling.flags(samples, effort, shared)
    if result["status"] == "ok":
        result["value_s"] = statistics.median(samples) / units


def _afterwards(
    result: dict[str, Any], subject: Any, timed: Timed, effort: Effort, stretch: int
) -> None:
    """What is looked at when the clock has stopped: idleness, memory, fallbacks, settings."""
    for _ in range(stretch):
        timed.seconds(result["calls_per_sample"])
    if busy := sampling.still_running(timed.clock):
        result["flags"]["still_running"] = round(busy, 3)
    timer, meter = Timer(), memory.Meter(subject.memory, timed.clock.pause)
    series = meter.series(timed.seconds, effort.memory_calls, effort.longest_s)
    about = memory.summary(meter, series)
    result["memory"] = {"rss_peak_bytes": memory.peak_bytes(), **subject.memory(), **about}
    result["phases_s"]["memory"] = timer.elapsed_s()
    fallbacks = subject.fallbacks() if hasattr(subject, "fallbacks") else {}
    result["flags"] |= {name: count for name, count in fallbacks.items() if count}
    result["settings"] = subject.settings()


def _turns(fd: int, cell_id: str, shared: bool) -> Turns:
    """What reaches the manager by `fd`, and waits there for its word."""

    def tell(when: str, **about: bool) -> None:
        os.write(fd, dumps({"when": when, "cell_id": cell_id, **about}).encode())  # one datagram

    return Turns(tell, functools.partial(os.read, fd, 64) if shared else None)


def _send(fd: int, cell_id: str, result: Mapping[str, Any]) -> None:
    _write(fd, {"cell_id": cell_id, "result": result})


def _write(fd: int, message: Mapping[str, Any]) -> None:
    data = memoryview(dumps(message).encode() + b"\n")
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
