"""Worker process of one run: `python -m tiebreak.bench.worker.main JOB RESULTS EVENTS`.

JOB is a JSON file with the job (suite/plan.py), RESULTS the pipe for one JSON line per cell, EVENTS
the socket for turns and the second clock. Order matters: CPU affinity and import guard before any
import, imports before threads are set, threads before the first use.
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
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.bench.clock import Timer, process_age_s
from tiebreak.bench.machine.contention import contended, throttled
from tiebreak.bench.probes.base import Probe, Subject
from tiebreak.bench.record import Result, dumps, empty_result, one_line
from tiebreak.bench.suite.plan import Effort, Job
from tiebreak.bench.worker import memory, sampling
from tiebreak.bench.worker.sampling import Timed
from tiebreak.bench.worker.turns import Dismissed, Turns
from tiebreak.bench.worker.work_checks import Work, check_parity, invalidate
from tiebreak.core import import_guard
from tiebreak.core.errors import MissingDependency, MissingDevice, MissingMemory
from tiebreak.core.process_env import die_with_parent
from tiebreak.core.seeding import seed_global_generators
from tiebreak.frameworks.runtime import Retraced, retraced

SUBJECT = "tiebreak.bench.probes.subject:make_subject"

ADVICE = "Give every call the same shapes, dtypes and Python values"


def main(arguments: list[str]) -> int:
    """Measure the cells of a job and send a result for each."""
    job = Job.from_json(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    results, events = map(int, arguments[1:3])
    die_with_parent(job.manager_pid)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job.cpus)
    import_guard.install(registry.allowed_imports(job.packages))
    seed_global_generators(job.seed)

    try:
        subject, phases = _prepare(job)
    except Exception as error:
        for cell in job.cells:
            _send(results, cell.id, _failure(error))
        return 1

    for cell in job.cells:  # a probe that fails does not stop the others
        turns = _turns(events, cell.id, shared=bool(job.turns))
        try:
            result = measure(
                subject,
                cell.probe,
                job.effort,
                job.calls.get(cell.id),
                turns=turns,
                stretch=job.stretch,
            )
            result["phases_s"] = {**phases, **result["phases_s"]}
            if result["settings"]:
                check_parity(result, cell, _threads(job, subject), job.cpus)
        except Dismissed:
            break
        except Exception as error:
            result = _failure(error)
        _send(results, cell.id, result)
        if turns.is_last:
            break
    subject.close()
    return 0


def _prepare(job: Job) -> tuple[Subject, dict[str, float]]:
    """Import and build the subject; return it with the seconds of both phases."""
    timer = Timer()
    module, _, name = (job.subject or SUBJECT).partition(":")
    subject: Subject = getattr(registry.load(module), name)(job)
    subject.load()
    phases = {"import": timer.lap_s()}
    subject.build()
    phases["build"] = timer.lap_s()
    return subject, phases


def _threads(job: Job, subject: Subject) -> int:
    """Return the number of threads that the library should have."""
    return job.threads if job.fixed_threads else getattr(subject, "threads", job.threads)


def _failure(error: Exception) -> Result:
    """Return the result of a cell that raised; the traceback goes to the worker's log."""
    traceback.print_exception(error)
    if isinstance(error, MissingDependency | MissingDevice | MissingMemory):
        return empty_result("missing", one_line(str(error)))
    return empty_result("failed", one_line(f"{type(error).__name__}: {error}"))


def measure(
    subject: Subject,
    name: str,
    effort: Effort,
    calls: int | None,
    turns: Turns | None = None,
    stretch: int = 0,
) -> Result:
    """Measure one probe, from its first call to the check of its work.

    Args:
        calls: Calls per sample, calibrated by an earlier run; None calibrates.
        turns: Turns of the steady phase; None has the machine to itself and no second clock.
        stretch: Samples to take afterwards without a pause, so that unfinished work piles up.
    """
    timer = Timer()
    result = empty_result("ok", "")
    probe = subject.probe(name)
    work = Work(probe)
    timed = Timed(work.call, probe.state, subject.sync, once=probe.once)
    result["unit"] = probe.unit
    result["phases_s"]["proof"] = timer.elapsed_s()
    if probe.once:
        effort, calls, stretch = effort.once(), 1, 0
    age_s = process_age_s() if probe.once else 0.0  # before it waits for a turn
    if not _run(result, subject, probe, timed, effort, calls, turns or Turns()):
        return result

    if probe.once:
        result["samples_s"][0] += age_s
    _summarize(result, probe, effort, shared=turns is not None and turns.shared)
    _inspect(result, subject, timed, effort, stretch, probe.compiles)
    timer.lap_s()
    work.check(result)
    result["phases_s"]["proof"] += timer.lap_s()
    return result


def _run(
    result: Result,
    subject: Subject,
    probe: Probe,
    timed: Timed,
    effort: Effort,
    calls: int | None,
    turns: Turns,
) -> bool:
    """Warm up and take the samples; return False, with a flag, if code was traced anew."""
    compile_count, compiled_later, lock = _retrace_checks(subject, probe)
    try:
        if not probe.once:
            _warm_up(result, timed, compile_count, effort)
        with lock():
            _sample(result, timed, compiled_later, effort, calls, turns)
    except Exception as error:
        if not retraced(error):
            raise
        invalidate(result, "recompiled", 1, one_line(f"{error}. {ADVICE}"))
        return False
    return True


def _never() -> int:
    """Return the compilations where none are counted."""
    return 0


def _retrace_checks(
    subject: Subject, probe: Probe
) -> tuple[Callable[[], int], Callable[[], int], Callable[[], AbstractContextManager[Any]]]:
    """Return the compile counters of warm-up and samples, and a lock against retracing."""
    if probe.compiles:  # in every call: the counter never rests, and compiling must be allowed
        return _never, _never, contextlib.nullcontext
    later = _never if getattr(subject, "compiles_later", False) else subject.compile_count
    return subject.compile_count, later, getattr(subject, "lock", contextlib.nullcontext)


def _warm_up(
    result: Result, timed: Timed, compile_count: Callable[[], int], effort: Effort
) -> None:
    """Call until nothing compiles any more; store phases and calls in `result`."""
    warmup = sampling.warm_up(timed, compile_count, effort)
    result["phases_s"] |= {"first_call": warmup.first_call_s, "warmup": warmup.rest_s}
    result["warmup_calls"] = warmup.calls
    result["first_calls_s"] = warmup.calls_s[: sampling.FIRST_CALLS]
    if warmup.silent == 0:
        raise Retraced(f"still compiling in call {warmup.calls}")


def _sample(
    result: Result,
    timed: Timed,
    compile_count: Callable[[], int],
    effort: Effort,
    calls: int | None,
    turns: Turns,
) -> None:
    """Take the samples; store them, contention and flags in `result`."""
    compiled = compile_count()
    n = calls or sampling.calibrate(timed, effort)
    result["calls_per_sample"] = n
    gc.collect()
    try:
        sampling.sample(
            timed,
            n,
            effort,
            result["samples_s"],
            turns,
            disturbed=lambda: compile_count() > compiled,
        )
    finally:
        turns.finish()
        result["phases_s"]["steady"] = turns.steady_s

    shares = turns.contention()
    result["contention"] = shares
    if turns.busy_cpus:
        result["flags"]["still_running"] = round(turns.busy_cpus, 3)
    if share := contended(shares):
        result["flags"]["contended"] = round(share, 4)
    if share := throttled(shares):
        result["flags"]["throttled"] = round(share, 4)
    if recompiled := compile_count() - compiled:
        reason = f"compiled {recompiled} times after warm-up. {ADVICE}"
        invalidate(result, "recompiled", recompiled, reason)


def _summarize(result: Result, probe: Probe, effort: Effort, shared: bool) -> None:
    """Compute the value and the flags of the samples; store them in `result`."""
    samples = result["samples_s"]
    units = result["calls_per_sample"] * probe.units_per_call
    result["units_per_sample"] = units
    result["flags"] |= sampling.flags(samples, effort, shared)
    if result["status"] == "ok":
        result["value_s"] = statistics.median(samples) / units


def _inspect(
    result: Result, subject: Subject, timed: Timed, effort: Effort, stretch: int, compiles: bool
) -> None:
    """Check idleness, memory, fallbacks and settings, off the clock; store them in `result`."""
    for _ in range(stretch):
        timed.seconds(result["calls_per_sample"])
    if busy_cpus := sampling.still_running(timed.clock):
        result["flags"]["still_running"] = round(busy_cpus, 3)

    timer = Timer()
    meter = memory.Meter(subject.memory, timed.clock.pause)
    series = meter.series(timed.seconds, effort.memory_calls, effort.longest_s)
    result["memory"] = {
        "rss_peak_bytes": memory.peak_bytes(),
        **subject.memory(),
        **memory.summary(meter, series),
    }
    result["phases_s"]["memory"] = timer.elapsed_s()
    if slope := memory.leak_slope(result["memory"], compiles):
        result["flags"]["memory_growing"] = round(slope)

    fallbacks = getattr(subject, "fallbacks", dict)()
    result["flags"] |= {name: count for name, count in fallbacks.items() if count}
    result["settings"] = subject.settings()


def _turns(events: int, cell_id: str, shared: bool) -> Turns:
    """Return turns that are announced to the manager and, if `shared`, granted by it."""

    def tell(when: str, **fields: bool) -> None:
        message = {"when": when, "cell_id": cell_id, **fields}
        os.write(events, dumps(message).encode())  # one datagram

    return Turns(tell, functools.partial(os.read, events, 64) if shared else None)


def _send(results: int, cell_id: str, result: Mapping[str, Any]) -> None:
    message = dumps({"cell_id": cell_id, "result": result})
    data = memoryview(message.encode() + b"\n")
    while data:
        data = data[os.write(results, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
