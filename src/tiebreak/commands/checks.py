"""What would make timings untrustworthy on this machine, each with its remedy.

Everything here is read from files and the environment; no framework is asked.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tiebreak.bench.machine.procfs import read

TIMING_VARIABLES = (
    "CUDA_LAUNCH_BLOCKING", "CUDA_VISIBLE_DEVICES", "JAX_COMPILATION_CACHE_DIR", "JAX_DISABLE_JIT",
    "JAX_ENABLE_X64", "JAX_PLATFORMS", "KMP_AFFINITY", "KMP_BLOCKTIME", "LD_PRELOAD",
    "MALLOC_ARENA_MAX", "MKL_NUM_THREADS", "NPROC", "NUMEXPR_NUM_THREADS", "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONDEVMODE", "PYTHONFAULTHANDLER",
    "PYTHONMALLOC", "TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS",
    "TF_XLA_FLAGS", "TORCHDYNAMO_DISABLE", "TORCHINDUCTOR_CACHE_DIR", "TORCH_COMPILE_DISABLE",
    "TORCH_LOGS", "XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE",
)  # fmt: skip
"""Environment variables that change how fast a framework runs, or what it runs."""


class Finding(NamedTuple):
    """One thing that disturbs timings, and what to do about it."""

    what: str
    remedy: str


def variables() -> dict[str, str]:
    """Those of TIMING_VARIABLES that are set."""
    return {name: os.environ[name] for name in TIMING_VARIABLES if name in os.environ}


def caches() -> dict[str, str]:
    """Compile caches that outlive a process -> where they are, or `off`."""
    inductor = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return {
        "torch": inductor or f"{tempfile.gettempdir()}/torchinductor_<user>",
        "jax": os.environ.get("JAX_COMPILATION_CACHE_DIR") or "off",
        "tensorflow": "off",
    }


def findings(root: Path = Path("/")) -> list[Finding]:
    """Everything that is wrong here; `root` is where /proc and /sys are."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = (
        _load(root, cpus), _pressure(root), _clock(root), _limit(root, cpus), _memory(root),
        _power(root), _settings(variables()), _room(), _few(cpus),
    )  # fmt: skip
    return [finding for part in parts for finding in part]


def _load(root: Path, cpus: int) -> Iterator[Finding]:
    words = read(root / "proc/loadavg").split()
    load = float(words[0]) if words else 0.0
    if load > 0.25 * cpus:
        yield Finding(
            f"other programs are running: load average {load:.2f} on {cpus} CPUs",
            "end them, or wait until they are done; contended visits are flagged in any case",
        )


def _pressure(root: Path) -> Iterator[Finding]:
    some = read(root / "proc/pressure/cpu").partition("\n")[0]
    share = float(some.partition("avg10=")[2].split(" ")[0] or 0) if "avg10=" in some else 0.0
    if share > 5.0:
        yield Finding(
            f"programs waited for a CPU {share:.0f} % of the last 10 s", "end what else is running"
        )


def _clock(root: Path) -> Iterator[Finding]:
    cpu = root / "sys/devices/system/cpu"
    governor = read(cpu / "cpu0/cpufreq/scaling_governor")
    if governor not in ("", "performance"):
        yield Finding(
            f"the CPU's clock follows the load (governor {governor})",
            "sudo cpupower frequency-set --governor performance",
        )
    turbo = read(cpu / "intel_pstate/no_turbo") == "0" or read(cpu / "cpufreq/boost") == "1"
    if turbo:
        yield Finding(
            "turbo is on: the clock falls as the CPU warms up",
            "compare interleaved runs only, as `tiebreak run` does, or switch turbo off",
        )


def _limit(root: Path, cpus: int) -> Iterator[Finding]:
    words = read(root / "sys/fs/cgroup/cpu.max").split()
    if len(words) == 2 and words[0] != "max" and int(words[0]) / int(words[1]) < cpus:
        yield Finding(
            f"this container may use {int(words[0]) / int(words[1]):.2g} CPUs' time but sees "
            f"{cpus}: it is throttled when all are busy",
            f"give it whole CPUs (docker run --cpuset-cpus), or start with taskset -c 0-"
            f"{max(0, int(words[0]) // int(words[1]) - 1)}",
        )


def _memory(root: Path) -> Iterator[Finding]:
    lines = [line.split() for line in read(root / "proc/meminfo").splitlines()]
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}
    swapped = kib.get("SwapTotal", 0) - kib.get("SwapFree", 0)
    if swapped > 64 * 1024:
        yield Finding(f"{swapped >> 10} MiB are swapped out", "close what holds memory; swapoff -a")
    if kib.get("MemAvailable", 4 << 20) < 4 << 20:
        yield Finding(
            f"only {kib['MemAvailable'] / (1 << 20):.1f} GiB of memory are free; compiling needs 4",
            "close what holds memory",
        )


def _power(root: Path) -> Iterator[Finding]:
    for supply in sorted(root.glob("sys/class/power_supply/*/status")):
        if read(supply) == "Discharging":
            yield Finding("this machine runs on its battery", "plug it in")
            return


def _settings(found: Mapping[str, str]) -> Iterator[Finding]:
    if found:
        told = ", ".join(f"{name}={value}" for name, value in found.items())
        yield Finding(f"the environment changes timings: {told}", f"unset {' '.join(found)}")


def _room() -> Iterator[Finding]:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 2 << 30:
        yield Finding(
            f"{tempfile.gettempdir()} has {free >> 20} MiB left; compile caches go there",
            "free some, or set TMPDIR to another disk",
        )


def _few(cpus: int) -> Iterator[Finding]:
    if cpus < 2:
        yield Finding(
            "one CPU only: whatever else runs, this command included, delays the measurement",
            "use a machine with two or more",
        )
