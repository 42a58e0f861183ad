"""Who measured: hardware, system, limits, software. Different fingerprints are never pooled.

Host and user names are hashed. No framework is imported to find out: versions are read from what
is installed.
"""

from __future__ import annotations

import functools
import getpass
import hashlib
import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from tiebreak.bench.machine import nvidia_smi
from tiebreak.bench.machine.contention import affinity
from tiebreak.bench.machine.procfs import cgroup, read
from tiebreak.bench.manager.worker_env import MATTERING, fixed
from tiebreak.core import cxx_compiler
from tiebreak.core.config import digest
from tiebreak.core.git import commit, output

PACKAGES = (
    "brax", "dm-control", "envpool", "equinox", "flax", "gymnasium", "gymnax", "jax", "jaxlib",
    "keras", "ml-dtypes", "mujoco", "mujoco-mjx", "numpy", "optax", "playground", "safetensors",
    "scipy", "tensorflow", "tensorflow-cpu", "torch", "triton",
)  # fmt: skip
"""Those that are listed by name; all others are in the digest of `distributions`."""

PASSING = ("boot_id", "commit", "hardware", "load_average", "memory_bytes")
"""What is noted but no part of the identity: it changes without anything being another, or (the
commit, the exact memory) something that is part of it says the same more to the point."""

HARDWARE = (
    "cpu", "cpu_flags", "cores", "affinity", "memory_gib", "gpus", "cgroup", "system", "host_hash",
)  # fmt: skip
"""What a machine is whatever is installed on it: two versions may be compared on one."""

LIMITS = ("AS", "CPU", "DATA", "STACK")
"""Resource limits that change what a process may use."""

CGROUP = {
    "cpu.max": ("cpu", ("cpu.max", "cpu.cfs_quota_us")),
    "memory.max": ("memory", ("memory.max", "memory.limit_in_bytes")),
}
"""Limit -> controller, and its file in v2 and v1."""
NO_LIMIT = 1 << 60
"""From here on a limit of v1 is none."""

NOT_MEASURED = {"cli.py", "commands", "report", "selftest", "stats", "verify"}
"""Parts of this package that no visit executes."""

CPU0 = Path("/sys/devices/system/cpu/cpu0")


def fingerprint() -> tuple[str, dict[str, Any]]:
    """(16 hex digits, what they stand for). `hardware` in it are digits for the machine alone."""
    machine = {
        **_processor(),
        **_memory(),
        **nvidia_smi.describe(),
        "cgroup": _cgroup_limits(),
        "limits": _limits(),
        "kernel": platform.release(),
        "system": f"{platform.system()} {platform.machine()}",
        "clocks": _clocks(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "cxx": _cxx(),
        "packages": packages(),
        "distributions": distributions(),
        "blas": blas(),
        "worker_environment": _variables(),
        "source": source(),
        "host_hash": _hashed(platform.node()),
        "user_hash": _hashed(_user()),
        "boot_id": _hashed(read(Path("/proc/sys/kernel/random/boot_id"))),
        "commit": commit(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    machine["hardware"] = digest({name: machine[name] for name in HARDWARE})
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


def distributions() -> dict[str, Any]:
    """Everything installed: how many, and one digest over all names and versions."""
    found = {f"{d.name}=={d.version}".lower() for d in metadata.distributions()}
    return {"installed": len(found), "installed_digest": _digits("\n".join(sorted(found)))}


def blas() -> dict[str, str]:
    """The library behind NumPy's products, and the instructions that NumPy has found here."""
    import numpy as np

    config: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    built = config.get("Build Dependencies", {}).get("blas", {})
    simd = config.get("SIMD Extensions", {})
    return {
        "blas_name": str(built.get("name", "")),
        "blas_version": str(built.get("version", "")),
        "blas_configuration": str(built.get("openblas configuration", "")),
        "simd": " ".join([*simd.get("baseline", []), *simd.get("found", [])]),
    }


def source() -> str:
    """A digest of the files of this package that a visit executes, installed or in a checkout."""
    package = Path(__file__).resolve().parents[2]
    text = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        where = file.relative_to(package)
        if where.parts[0] not in NOT_MEASURED:
            text.update(where.as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return text.hexdigest()[:16]


def _processor() -> dict[str, Any]:
    info: dict[str, str] = {}
    for line in read(Path("/proc/cpuinfo")).split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        info[name.strip()] = value.strip()
    return {
        "cpu": info.get("model name") or platform.processor() or "unknown",
        "cpu_flags": _digits(" ".join(sorted(info.get("flags", info.get("Features", "")).split()))),
        "microcode": info.get("microcode", ""),
        "cores": os.cpu_count(),
        "affinity": affinity(),
        "governor": read(CPU0 / "cpufreq/scaling_governor"),
    }


def _memory() -> dict[str, Any]:
    """Bytes differ a little from boot to boot, whole GiB do not."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    huge = read(Path("/sys/kernel/mm/transparent_hugepage/enabled"))
    return {"memory_bytes": size, "memory_gib": round(size / 2**30), "huge_pages": huge}


def _clocks() -> dict[str, str]:
    """What sets the speed of the CPU, and which counter tells the time; as far as it shows."""
    cpu = CPU0.parent
    found = {
        "clock_min_khz": CPU0 / "cpufreq/cpuinfo_min_freq",
        "clock_max_khz": CPU0 / "cpufreq/scaling_max_freq",
        "boost": cpu / "cpufreq/boost",
        "no_turbo": cpu / "intel_pstate/no_turbo",
        "smt": cpu / "smt/active",
        "clocksource": cpu.parent / "clocksource/clocksource0/current_clocksource",
    }
    return {name: value for name, file in found.items() if (value := read(file))}


def _cgroup_limits() -> dict[str, str]:
    """What our cgroup allows; empty where it does not limit."""
    out = {}
    for limit, (controller, files) in CGROUP.items():
        found = [read(f / file) for f in cgroup(controller) for file in files]
        out[limit] = next((v for v in found if _limits_something(v)), "")
    return out


def _limits_something(text: str) -> bool:
    words = text.split()
    return bool(words) and words[0].isdigit() and int(words[0]) < NO_LIMIT


def _limits() -> dict[str, Any]:
    """Resource limits, scheduling policy and niceness, which workers inherit."""
    out: dict[str, Any] = {}
    for name in LIMITS:
        if (number := getattr(resource, f"RLIMIT_{name}", None)) is not None:
            soft = resource.getrlimit(number)[0]
            out[f"rlimit_{name.lower()}"] = None if soft == resource.RLIM_INFINITY else soft
    if hasattr(os, "sched_getscheduler"):
        out["policy"] = os.sched_getscheduler(0)
    return {**out, "nice": os.getpriority(os.PRIO_PROCESS, 0)}


def _variables() -> dict[str, str]:
    """A worker's variables that are alike in all visits; a user's paths as digits."""
    own = {name: _hashed(os.environ[name]) for name in MATTERING if name in os.environ}
    return {**fixed(len(affinity())), **own}


@functools.cache
def _cxx() -> str:
    """The C++ compiler that torch.compile would use, in its own words."""
    found = cxx_compiler.find()
    return output([found, "--version"]).partition("\n")[0] if found else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid()) if hasattr(os, "getuid") else sys.platform


def _hashed(name: str) -> str:
    return hashlib.sha256(f"tiebreak:{name}".encode()).hexdigest()[:12] if name else ""


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
