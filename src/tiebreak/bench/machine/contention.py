"""Who else was using the CPUs while something was timed, and what held them back.

All readings are taken from the kernel's counters before and after; nothing runs meanwhile. What a
system does not count is left out. Thresholds and what they rest on: docs/decisions/0012 and 0016.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import resource
from pathlib import Path

from tiebreak.bench.machine import nvidia_smi
from tiebreak.bench.machine.procfs import ROOT, cgroup, read, value
from tiebreak.bench.worker.clock import Timer

CONTENDED = {"others": 0.05, "steal": 0.01}
"""Shares of the CPU time from which on a visit is flagged as contended."""
WAITED = {"run_queue": 0.02, "psi": 0.05}
"""Shares of the time waited for a CPU. A process's own threads wait for one another, too, so these
flag nothing by themselves; above them, others that took `OTHERS_WAITED` are held responsible."""
OTHERS_WAITED = 0.02
THROTTLED = 0.01
"""Share of the time from which on a visit is flagged as throttled."""

Shares = dict[str, float]

QUOTA = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
"""Where a cgroup counts the CPU time that its quota withheld (v2, v1), in which unit."""


def contended(shares: Shares) -> float:
    """The largest share that others or the host took, if it exceeds its threshold; or 0."""
    limits = dict(CONTENDED)
    if any(shares.get(name, 0.0) > limit for name, limit in WAITED.items()):
        limits["others"] = OTHERS_WAITED
    found = {name: shares.get(name, 0.0) for name in limits}
    return max((share for name, share in found.items() if share > limits[name]), default=0.0)


def throttled(shares: Shares) -> float:
    """The share of the time for which a quota, power or heat held this process back; or 0."""
    share = shares.get("throttled", 0.0)
    return share if share > THROTTLED else 0.0


class Contention:
    """What others took of the CPUs since its construction, and how long this process waited.

    Time between `pause` and `resume` does not count: it is other visits' turn.
    """

    def __init__(self) -> None:
        self.gpu_us = nvidia_smi.held_back_us() if _uses_gpu() else None
        self.cpus = affinity()
        self.own_s, self.seconds, self.windows = 0.0, 0.0, 0
        self.spent: dict[str, float] = {}
        self._open: tuple[float, Timer, dict[str, float]] | None = None
        self.resume()

    def resume(self) -> None:
        """From now on it counts."""
        self._open = _own_s(), Timer(), _counters(self.cpus)

    def pause(self) -> None:
        """From now on it does not."""
        if self._open is None:
            return
        (own_s, timer, before), self._open = self._open, None
        after, self.windows = _counters(self.cpus), self.windows + 1
        self.seconds += timer.elapsed_s()
        self.own_s += _own_s() - own_s
        for name in after.keys() & before.keys():
            self.spent[name] = self.spent.get(name, 0.0) + after[name] - before[name]

    def read(self) -> Shares:
        """Shares, of those that this system counts:

        others, steal: of the CPU time of the CPUs that this process may use, what other processes
        used and what a host took for other machines. run_queue: of the wall time, this thread
        runnable but waiting (for its own process's threads, too). psi: of the wall time, any task
        (of our cgroup, or else of the system) waiting for a CPU. throttled: of the time, held back
        by a quota of our cgroup, or a GPU's clock by power or heat.
        """
        self.pause()
        spent, seconds = self.spent, max(self.seconds, 1e-9)
        cpu_s = seconds * len(self.cpus)
        ticks = len(self.cpus) * math.sqrt(max(1, self.windows))
        blur_s = ticks / os.sysconf("SC_CLK_TCK")  # whole ticks are counted on each CPU
        out = {k: spent[k] / seconds for k in ("run_queue", "psi") if k in spent}
        if abs(spent.get("total", 0.0) - cpu_s) < 0.2 * cpu_s + blur_s:  # some systems show zeros
            out["steal"] = spent["steal"] / cpu_s
            busy_s = cpu_s - spent["idle"] - spent["steal"]
            out["others"] = max(0.0, busy_s - self.own_s - blur_s) / cpu_s
        if "quota" in spent:
            out["throttled"] = spent["quota"] / cpu_s
        if _uses_gpu():
            out["throttled"] = max(out.get("throttled", 0.0), self._gpu(seconds))
        return out

    def _gpu(self, seconds: float) -> float:
        """The share of the time that a GPU was held back; 1 where only `now` is known."""
        after = nvidia_smi.held_back_us()
        if self.gpu_us and after and len(after) == len(self.gpu_us):
            most = max(b - a for a, b in zip(self.gpu_us, after, strict=True))
            return min(1.0, most / 1e6 / seconds)
        return float(nvidia_smi.is_held_back())


def affinity() -> list[int]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _counters(cpus: list[int], root: Path = ROOT) -> dict[str, float]:
    """Seconds so far, by what they were spent on."""
    out = _stat(cpus, read(root / "proc/stat"))
    waits = read(root / "proc/thread-self/schedstat").split()
    if len(waits) > 1:
        out["run_queue"] = int(waits[1]) / 1e9
    folders = cgroup("cpu", root)
    for file in (*(folder / "cpu.pressure" for folder in folders), root / "proc/pressure/cpu"):
        some = read(file).partition("\n")[0]
        if "total=" in some:
            out["psi"] = int(some.partition("total=")[2]) / 1e6
            break
    for folder, (name, seconds) in itertools.product(folders, QUOTA.items()):
        if (withheld := value(folder / "cpu.stat", name)) is not None:
            out["quota"] = withheld * seconds
    return out


def _stat(cpus: list[int], text: str) -> dict[str, float]:
    """Idle, stolen and all time of these CPUs, from /proc/stat.

    What was *not* idle is counted busy: the kernel adds up idle time as it passes, but busy time by
    looking once in a tick at who is running, which is coarse.
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
    """CPU time of this process, of its children that have ended, and of those of environments."""
    running = sum(_cpu_s(child.pid) for child in multiprocessing.active_children())
    own, ended = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + running


def _cpu_s(pid: int | None) -> float:
    """CPU time of a running process; 0 where the system does not tell."""
    # PID (NAME) STATE …, where a name may hold spaces and brackets; 12th and 13th: user and system
    fields = read(ROOT / f"proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _uses_gpu() -> bool:
    """Workers of CPU cells see no device; asking costs a process."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != ""
