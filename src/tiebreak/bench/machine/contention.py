"""Measure what other processes took of the CPUs while something was timed, and throttling.

The kernel's counters are read before and after; nothing runs meanwhile. Quantities that a system
does not count are left out. Thresholds are explained in docs/decisions/0012 and 0016.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import resource
from pathlib import Path

import psutil

from tiebreak.bench.clock import Timer
from tiebreak.bench.machine import nvidia_smi
from tiebreak.core.process_env import affinity
from tiebreak.core.procfs import ROOT, cgroup, read, value

CONTENDED = {"others": 0.05, "steal": 0.01}
"""Shares of CPU time above which a run is flagged as contended."""

WAITING = {"run_queue": 0.02, "psi": 0.05}
"""Shares of wall time spent waiting for a CPU. A process's own threads also wait for one another,
so these flag nothing by themselves; above them the limit on `others` is `OTHERS_IF_WAITING`."""

OTHERS_IF_WAITING = 0.02

THROTTLED = 0.01
"""Share of the time above which a run is flagged as throttled."""

Shares = dict[str, float]

QUOTA = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
"""Counter of CPU time withheld by a cgroup's quota (v2, v1) -> its unit in seconds."""


def contended(shares: Shares) -> float:
    """Return the largest share that others or the host took if above its threshold, else 0."""
    limits = dict(CONTENDED)
    if any(shares.get(name, 0.0) > limit for name, limit in WAITING.items()):
        limits["others"] = OTHERS_IF_WAITING
    excessive = [shares[name] for name, limit in limits.items() if shares.get(name, 0.0) > limit]
    return max(excessive, default=0.0)


def throttled(shares: Shares) -> float:
    """Return the share of time lost to a quota, power or heat if above its threshold, else 0."""
    share = shares.get("throttled", 0.0)
    return share if share > THROTTLED else 0.0


class Contention:
    """Meter of the CPU time that others took, and of this process's waiting, since construction.

    Time between `pause` and `resume` does not count: other workers have their turn then.
    """

    def __init__(self) -> None:
        self.gpu_us = nvidia_smi.throttled_us() if _uses_gpu() else None
        self.cpus = affinity()
        self.own_s, self.seconds, self.windows = 0.0, 0.0, 0
        self.counted_s: dict[str, float] = {}
        self._open: tuple[float, Timer, dict[str, float]] | None = None
        self.resume()

    def resume(self) -> None:
        """Start counting."""
        self._open = _own_s(), Timer(), _counters(self.cpus)

    def pause(self) -> None:
        """Stop counting until `resume`."""
        if self._open is None:
            return
        own_s, timer, before = self._open
        self._open = None
        after = _counters(self.cpus)
        self.windows += 1
        self.seconds += timer.elapsed_s()
        self.own_s += _own_s() - own_s
        for name in after.keys() & before.keys():
            self.counted_s[name] = self.counted_s.get(name, 0.0) + after[name] - before[name]

    def read(self) -> Shares:
        """Return the shares that this system counts.

        others, steal: share of the CPU time of this process's CPUs that other processes used, and
            that the host took for other virtual machines.
        run_queue: share of wall time in which this thread was runnable but waited.
        psi: share of wall time in which any task of our cgroup (else of the system) waited.
        throttled: share of time lost to a quota of our cgroup, or to a GPU's power or heat limit.
        """
        self.pause()
        counted_s, seconds = self.counted_s, max(self.seconds, 1e-9)
        cpu_s = seconds * len(self.cpus)
        ticks = len(self.cpus) * math.sqrt(max(1, self.windows))
        resolution_s = ticks / os.sysconf("SC_CLK_TCK")  # each CPU counts whole ticks

        shares = {k: counted_s[k] / seconds for k in ("run_queue", "psi") if k in counted_s}
        is_counted = abs(counted_s.get("total", 0.0) - cpu_s) < 0.2 * cpu_s + resolution_s
        if is_counted:  # some systems show zeros
            shares["steal"] = counted_s["steal"] / cpu_s
            busy_s = cpu_s - counted_s["idle"] - counted_s["steal"]
            shares["others"] = max(0.0, busy_s - self.own_s - resolution_s) / cpu_s
        if "quota" in counted_s:
            shares["throttled"] = counted_s["quota"] / cpu_s
        if _uses_gpu():
            shares["throttled"] = max(shares.get("throttled", 0.0), self._gpu_throttled(seconds))
        return shares

    def _gpu_throttled(self, seconds: float) -> float:
        """Return the share of time that a GPU was throttled; 0 or 1 where drivers do not count."""
        after = nvidia_smi.throttled_us()
        if self.gpu_us and after and len(after) == len(self.gpu_us):
            most = max(b - a for a, b in zip(self.gpu_us, after, strict=True))
            return min(1.0, most / 1e6 / seconds)
        return float(nvidia_smi.is_throttled())


def _counters(cpus: list[int], root: Path = ROOT) -> dict[str, float]:
    """Return the kernel's counters so far, in seconds."""
    seconds_by_use = _stat(cpus, read(root / "proc/stat"))
    waits = read(root / "proc/thread-self/schedstat").split()
    if len(waits) > 1:
        seconds_by_use["run_queue"] = int(waits[1]) / 1e9
    folders = cgroup("cpu", root)
    for file in (*(folder / "cpu.pressure" for folder in folders), root / "proc/pressure/cpu"):
        some = read(file).partition("\n")[0]
        if "total=" in some:
            seconds_by_use["psi"] = int(some.partition("total=")[2]) / 1e6
            break
    for folder, (name, unit_s) in itertools.product(folders, QUOTA.items()):
        withheld = value(folder / "cpu.stat", name)
        if withheld is not None:
            seconds_by_use["quota"] = withheld * unit_s
    return seconds_by_use


def _stat(cpus: list[int], text: str) -> dict[str, float]:
    """Return idle, stolen and total seconds of these CPUs, from the text of /proc/stat.

    Callers take total minus idle as busy: the kernel accumulates idle time exactly, but samples
    busy time once per tick, which is coarse.
    """
    names = {f"cpu{n}" for n in cpus}
    rows = [line.split() for line in text.splitlines() if line.split()[0] in names]
    ticks = [list(map(int, row[1:9])) for row in rows if len(row) > 8]
    if not ticks:
        return {"idle": 0.0, "steal": 0.0, "total": 0.0}
    # user nice system idle iowait irq softirq steal: guests are counted in user
    user, nice, system, idle, iowait, irq, softirq, steal = map(sum, zip(*ticks, strict=True))
    per_s = os.sysconf("SC_CLK_TCK")
    total = user + nice + system + idle + iowait + irq + softirq + steal
    return {"idle": (idle + iowait) / per_s, "steal": steal / per_s, "total": total / per_s}


def _own_s() -> float:
    """Return CPU seconds of this process, its ended children and its environment processes."""
    running = sum(_cpu_s(child.pid) for child in multiprocessing.active_children())
    own, ended = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + running


def _cpu_s(pid: int | None) -> float:
    """Return CPU seconds of a running process; 0 if it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def _uses_gpu() -> bool:
    # Workers of CPU cells see no device; asking nvidia-smi costs a process.
    return os.environ.get("CUDA_VISIBLE_DEVICES") != ""
