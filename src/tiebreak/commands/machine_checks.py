"""Find what would disturb timings on this machine, each with its remedy.

Everything is read from files and the environment; no framework is started.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tiebreak.core.process_env import affinity
from tiebreak.core.procfs import read

TIMING_VARIABLES = (
    "CUDA_LAUNCH_BLOCKING", "CUDA_VISIBLE_DEVICES", "JAX_COMPILATION_CACHE_DIR", "JAX_DISABLE_JIT",
    "JAX_ENABLE_X64", "JAX_PLATFORMS", "KMP_AFFINITY", "KMP_BLOCKTIME", "LD_PRELOAD",
    "MALLOC_ARENA_MAX", "MKL_NUM_THREADS", "NPROC", "NUMEXPR_NUM_THREADS", "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONDEVMODE", "PYTHONFAULTHANDLER",
    "PYTHONMALLOC", "TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS",
    "TF_XLA_FLAGS", "TORCHDYNAMO_DISABLE", "TORCHINDUCTOR_CACHE_DIR", "TORCH_COMPILE_DISABLE",
    "TORCH_LOGS", "XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE",
)  # fmt: skip
"""Environment variables that change how fast a framework runs, or which code it runs."""


class Finding(NamedTuple):
    """One disturbance of timings, and what to do about it."""

    what: str
    remedy: str


def timing_variables() -> dict[str, str]:
    """Return those of TIMING_VARIABLES that are set, with their values."""
    return {name: os.environ[name] for name in TIMING_VARIABLES if name in os.environ}


def compile_caches() -> dict[str, str]:
    """Return where each framework keeps its persistent compile cache, or `off`."""
    inductor = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return {
        "torch": inductor or f"{tempfile.gettempdir()}/torchinductor_<user>",
        "jax": os.environ.get("JAX_COMPILATION_CACHE_DIR") or "off",
        "tensorflow": "off",
    }


def findings(root: Path = Path("/")) -> list[Finding]:
    """Return everything that would disturb timings.

    root: folder that holds /proc and /sys.
    """
    cpus = len(affinity())
    return [
        *_load(root, cpus),
        *_pressure(root),
        *_clock(root),
        *_cpu_quota(root, cpus),
        *_memory(root),
        *_battery(root),
        *_variables(timing_variables()),
        *_disk_space(),
        *_cpu_count(cpus),
    ]


def _load(root: Path, cpus: int) -> Iterator[Finding]:
    fields = read(root / "proc/loadavg").split()
    load = float(fields[0]) if fields else 0.0
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
            f"programs waited for a CPU {share:.0f} % of the last 10 s", "end the other programs"
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


def _cpu_quota(root: Path, cpus: int) -> Iterator[Finding]:
    fields = read(root / "sys/fs/cgroup/cpu.max").split()
    if len(fields) != 2 or fields[0] == "max":
        return
    quota = int(fields[0]) / int(fields[1])
    if quota < cpus:
        yield Finding(
            f"this container may use {quota:.2g} CPUs' time but sees {cpus}: it is throttled when "
            "all are busy",
            "give it whole CPUs (docker run --cpuset-cpus), or start with taskset -c 0-"
            f"{max(0, int(quota) - 1)}",
        )


def _memory(root: Path) -> Iterator[Finding]:
    lines = [line.split() for line in read(root / "proc/meminfo").splitlines()]
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}
    swapped = kib.get("SwapTotal", 0) - kib.get("SwapFree", 0)
    if swapped > 64 * 1024:
        yield Finding(
            f"{swapped >> 10} MiB are swapped out",
            "close programs that use much memory; sudo swapoff -a",
        )
    if kib.get("MemAvailable", 4 << 20) < 4 << 20:
        yield Finding(
            f"only {kib['MemAvailable'] / (1 << 20):.1f} GiB of memory are free; compiling needs 4",
            "close programs that use much memory",
        )


def _battery(root: Path) -> Iterator[Finding]:
    for supply in sorted(root.glob("sys/class/power_supply/*/status")):
        if read(supply) == "Discharging":
            yield Finding("this machine runs on its battery", "plug it in")
            return


def _variables(variables: Mapping[str, str]) -> Iterator[Finding]:
    if variables:
        values = ", ".join(f"{name}={value}" for name, value in variables.items())
        yield Finding(f"the environment changes timings: {values}", f"unset {' '.join(variables)}")


def _disk_space() -> Iterator[Finding]:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 2 << 30:
        yield Finding(
            f"{tempfile.gettempdir()} has {free >> 20} MiB left; compile caches go there",
            "free some, or set TMPDIR to another disk",
        )


def _cpu_count(cpus: int) -> Iterator[Finding]:
    if cpus < 2:
        yield Finding(
            "one CPU only: every other process, this command included, delays the measurement",
            "use a machine with two or more",
        )
