"""Where a measurement was made: the fingerprint, the canary, and who else was using the CPU.

Different fingerprints are compared side by side, never pooled. Host and user names are hashed.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from tiebreak.bench.clock import Timer
from tiebreak.core.config import digest

PACKAGES = (
    "brax", "dm-control", "envpool", "equinox", "flax", "gymnasium", "gymnax", "jax", "jaxlib",
    "keras", "ml-dtypes", "mujoco", "mujoco-mjx", "numpy", "optax", "playground", "safetensors",
    "scipy", "tensorflow", "tensorflow-cpu", "torch", "triton",
)  # fmt: skip

PASSING = ("boot_id", "commit", "load_average")
"""What is noted but no part of the identity: it changes without the machine being another."""

CONTENDED = {"others": 0.05, "steal": 0.01}
"""Shares of all CPU time from which on a visit is flagged as contended."""


def fingerprint() -> tuple[str, dict[str, Any]]:
    """(16 hex digits, what they stand for). No framework is imported to find out."""
    machine = {
        **_processor(),
        "memory_bytes": _memory_bytes(),
        "cgroup": {name: _read(f"/sys/fs/cgroup/{name}") for name in ("cpu.max", "memory.max")},
        "kernel": platform.release(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": _gpus(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "packages": packages(),
        "host_hash": _hashed(platform.node()),
        "user_hash": _hashed(_user()),
        "boot_id": _hashed(_read("/proc/sys/kernel/random/boot_id")),
        "commit": commit(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    return digest({k: v for k, v in machine.items() if k not in PASSING}), machine


def packages() -> dict[str, str]:
    """Versions of the packages that matter, of those that are installed."""
    out = {}
    for name in PACKAGES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def commit() -> str:
    """The commit of the checkout that is running, with a hash of what differs from it.

    Empty when this is an installed package.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    head = _output(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"])
    changes = _output(["git", "-C", str(root), "status", "--porcelain", "--", "src"])
    if not changes:
        return head
    source = hashlib.sha256()
    for file in sorted((root / "src").rglob("*.py")):
        source.update(file.read_bytes())
    return f"{head or 'uncommitted'}+{source.hexdigest()[:12]}"


def canary() -> dict[str, float]:
    """Seconds that a fixed NumPy product and a fixed Python loop take: the median of five each.

    They open and close a block. They show that the machine has changed; nothing is rescaled.
    """
    import numpy as np

    matrix = np.random.default_rng(0).standard_normal((256, 256), dtype=np.float32)
    out: dict[str, list[float]] = {"numpy_product": [], "python_loop": []}
    for _ in range(5):
        timer = Timer()
        for _ in range(10):
            _ = matrix @ matrix
        out["numpy_product"].append(timer.lap_s())
        total = 0
        for i in range(50_000):
            total += i & 7
        out["python_loop"].append(timer.lap_s())
    return {name: statistics.median(values) for name, values in out.items()}


class Contention:
    """What others took of the CPUs since its construction, and how long this process waited."""

    def __init__(self) -> None:
        self.timer = Timer()
        self.waited_ns, self.own_s, (self.busy, self.stolen) = _run_queue_ns(), _own_s(), _ticks()

    def read(self) -> dict[str, float]:
        """Shares: of all CPU time, used by other processes and stolen by a host; of wall time, the
        main thread runnable but waiting (for its own threads, too: a reading, not a reason).
        """
        seconds = max(self.timer.elapsed_s(), 1e-9)
        per_s, cpus, (busy, stolen) = os.sysconf("SC_CLK_TCK"), os.cpu_count() or 1, _ticks()
        others_s = (busy - self.busy) / per_s - (_own_s() - self.own_s)
        return {
            "others": max(0.0, others_s) / cpus / seconds,
            "steal": (stolen - self.stolen) / per_s / cpus / seconds,
            "run_queue": (_run_queue_ns() - self.waited_ns) / 1e9 / seconds,
        }


def contended(shares: dict[str, float]) -> float:
    """The largest share that exceeds its threshold, or 0."""
    return max((shares[k] for k, limit in CONTENDED.items() if shares[k] > limit), default=0.0)


def _run_queue_ns() -> int:
    fields = _read("/proc/thread-self/schedstat").split()
    return int(fields[1]) if len(fields) > 1 else 0


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _ticks() -> tuple[int, int]:
    """Clock ticks of all CPUs so far: (spent in any process or the kernel, stolen by a host)."""
    fields = _read("/proc/stat").partition("\n")[0].split()[1:]
    if len(fields) < 8:
        return 0, 0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return user + nice + system + irq + softirq, steal


def affinity() -> list[int]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _processor() -> dict[str, Any]:
    info = _read("/proc/cpuinfo").splitlines()
    names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "affinity": affinity(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return _output(asked).splitlines()


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid()) if hasattr(os, "getuid") else sys.platform


def _hashed(name: str) -> str:
    return hashlib.sha256(f"tiebreak:{name}".encode()).hexdigest()[:12] if name else ""
