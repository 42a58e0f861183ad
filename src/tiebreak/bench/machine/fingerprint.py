"""Identify the machine and the software of a measurement; results are pooled only within one.

Host and user names, and paths, are hashed with a secret of this machine, so that nobody finds them
by trying names. No framework is imported: versions come from package metadata.
"""

from __future__ import annotations

import functools
import getpass
import hashlib
import hmac
import os
import platform
import re
import resource
import secrets
import sys
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

from tiebreak.bench.machine import nvidia_smi
from tiebreak.core import cxx_compiler
from tiebreak.core.cache import cache_folder, read_cached, write_cached
from tiebreak.core.config import digest
from tiebreak.core.git import commit, output
from tiebreak.core.process_env import affinity
from tiebreak.core.procfs import cgroup, read
from tiebreak.frameworks.threads import thread_variables

PACKAGES = (
    "brax", "craftax", "dm-control", "envpool", "equinox", "flax", "gymnasium", "gymnax", "jax",
    "jaxlib", "keras", "minigrid", "ml-dtypes", "mujoco", "mujoco-mjx", "numpy", "optax",
    "playground", "safetensors", "scipy", "tensorflow", "tensorflow-cpu", "torch", "triton",
    "xminigrid",
)  # fmt: skip
"""Packages listed with their versions; all others are in the digest of `distributions`."""

NOT_IDENTITY = ("boot_id", "commit", "hardware", "load_average", "memory_bytes")
"""Recorded, but not part of the identity: these change on the same machine, or (commit, exact
memory) another field identifies the same thing better."""

HARDWARE = (
    "cpu", "cpu_flags", "cores", "affinity", "memory_gib", "gpus", "cgroup", "system", "host_hash",
)  # fmt: skip
"""The fields that identify the machine alone, so that two versions can be compared on it."""

LIMITS = ("AS", "CPU", "DATA", "STACK")
"""Resource limits (RLIMIT_*) that change what a process may use."""

CGROUP = {
    "cpu.max": ("cpu", ("cpu.max", "cpu.cfs_quota_us")),
    "memory.max": ("memory", ("memory.max", "memory.limit_in_bytes")),
}
"""Limit -> (controller, its files in cgroup v2 and v1)."""

NO_LIMIT = 1 << 60
"""A limit of cgroup v1 from this value on means that there is none."""

NOT_MEASURED = {"cli.py", "commands", "report", "selftest", "stats", "studies", "verify"}
"""Parts of this package that no worker executes."""

TOOLCHAIN_VARIABLES = ("CC", "CUDA_HOME", "CXX", "LD_LIBRARY_PATH", "MUJOCO_GL")
"""Inherited variables that select the compiler, the libraries or the renderer."""

CPU0 = Path("/sys/devices/system/cpu/cpu0")


def fingerprint() -> tuple[str, dict[str, Any]]:
    """Return a digest of 16 hex digits and the fields that it covers.

    The field `hardware` is a digest of the machine without its software.
    """
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
        "worker_environment": _worker_variables(),
        "source": source(),
        "host_hash": _hashed(platform.node()),
        "user_hash": _hashed(_user()),
        "boot_id": _hashed(read(Path("/proc/sys/kernel/random/boot_id"))),
        "commit": commit(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    machine["hardware"] = digest({name: machine[name] for name in HARDWARE})
    identity = {name: value for name, value in machine.items() if name not in NOT_IDENTITY}
    return digest(identity), machine


def computer() -> str:
    """Return a digest of the host's processor, memory and name; no process is started for it."""
    processor = {name: _processor()[name] for name in ("cpu", "cpu_flags", "cores", "affinity")}
    gib = _memory()["memory_gib"]
    return digest({**processor, "memory_gib": gib, "host_hash": _hashed(platform.node())})


def folder_name() -> str:
    """Return the name of this machine's folder below results/: after its GPUs, else its CPUs."""
    _, machine = fingerprint()
    gpus = [text.rpartition(", ")[0] for text in machine["gpus"]]  # without their memory
    if gpus:
        number = f"x{len(gpus)}" if len(gpus) > 1 else ""
        name = f"{gpus[0]} {number}"
    else:
        name = f"{machine['cpu']} {machine['cores']} cores"
    without_marks = re.sub(r"\((r|tm)\)", "", name.lower())
    return "-".join(re.findall(r"[a-z0-9]+", without_marks))


def fixed_variables(threads: int) -> dict[str, str]:
    """Return the environment variables that are equal in every worker of a suite."""
    return {
        **thread_variables(threads),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
    }


def packages() -> dict[str, str]:
    """Return the versions of those PACKAGES that are installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def numerics() -> dict[str, Any]:
    """Return what the result of a computation may depend on, besides our own source."""
    processor = _processor()
    return {
        "cpu_flags": processor["cpu_flags"],
        "python": platform.python_version(),
        "cxx": _cxx(),
        **distributions(),
    }


def distributions() -> dict[str, Any]:
    """Return the number of installed distributions and one digest of all names and versions."""
    installed = {f"{d.name}=={d.version}".lower() for d in metadata.distributions()}
    return {
        "installed": len(installed),
        "installed_digest": _hex_digest("\n".join(sorted(installed))),
    }


def blas() -> dict[str, str]:
    """Return NumPy's BLAS library and the SIMD instructions that NumPy detected."""
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


def source(skipped: Collection[str] = NOT_MEASURED) -> str:
    """Return a digest of the files of this package, by default of those that a worker executes.

    `skipped` names folders and files at the top of the package.
    """
    package = Path(__file__).resolve().parents[2]
    content = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        if name.parts[0] not in skipped:
            content.update(name.as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()[:16]


def _processor() -> dict[str, Any]:
    info: dict[str, str] = {}
    for line in read(Path("/proc/cpuinfo")).split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        info[name.strip()] = value.strip()
    flags = info.get("flags", info.get("Features", "")).split()
    return {
        "cpu": info.get("model name") or platform.processor() or "unknown",
        "cpu_flags": _hex_digest(" ".join(sorted(flags))),
        "microcode": info.get("microcode", ""),
        "cores": os.cpu_count(),
        "affinity": affinity(),
        "governor": read(CPU0 / "cpufreq/scaling_governor"),
    }


def _memory() -> dict[str, Any]:
    # Bytes differ a little from boot to boot, whole GiB do not.
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    huge = read(Path("/sys/kernel/mm/transparent_hugepage/enabled"))
    return {"memory_bytes": size, "memory_gib": round(size / 2**30), "huge_pages": huge}


def _clocks() -> dict[str, str]:
    """Return frequency limits, boost settings and the clock source, as far as /sys shows them."""
    cpu = CPU0.parent
    files = {
        "clock_min_khz": CPU0 / "cpufreq/cpuinfo_min_freq",
        "clock_max_khz": CPU0 / "cpufreq/scaling_max_freq",
        "boost": cpu / "cpufreq/boost",
        "no_turbo": cpu / "intel_pstate/no_turbo",
        "smt": cpu / "smt/active",
        "clocksource": cpu.parent / "clocksource/clocksource0/current_clocksource",
    }
    return {name: value for name, file in files.items() if (value := read(file))}


def _cgroup_limits() -> dict[str, str]:
    """Return the limits of this process's cgroup; empty strings where there is none."""
    limits = {}
    for limit, (controller, files) in CGROUP.items():
        values = [read(folder / file) for folder in cgroup(controller) for file in files]
        limits[limit] = next(filter(_is_limit, values), "")
    return limits


def _is_limit(text: str) -> bool:
    fields = text.split()
    return bool(fields) and fields[0].isdigit() and int(fields[0]) < NO_LIMIT


def _limits() -> dict[str, Any]:
    """Return resource limits, scheduling policy and niceness, which workers inherit."""
    limits: dict[str, Any] = {}
    for name in LIMITS:
        if (number := getattr(resource, f"RLIMIT_{name}", None)) is not None:
            soft = resource.getrlimit(number)[0]
            limits[f"rlimit_{name.lower()}"] = None if soft == resource.RLIM_INFINITY else soft
    if hasattr(os, "sched_getscheduler"):
        limits["policy"] = os.sched_getscheduler(0)
    return {**limits, "nice": os.getpriority(os.PRIO_PROCESS, 0)}


def _worker_variables() -> dict[str, str]:
    """Return the variables that all workers share. Inherited ones hold paths: they are hashed."""
    inherited = {
        name: _hashed(os.environ[name]) for name in TOOLCHAIN_VARIABLES if name in os.environ
    }
    return {**fixed_variables(len(affinity())), **inherited}


@functools.cache
def _cxx() -> str:
    """Return the version line of the C++ compiler that torch.compile would use."""
    compiler = cxx_compiler.find()
    return output([compiler, "--version"]).partition("\n")[0] if compiler else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid()) if hasattr(os, "getuid") else sys.platform


def _hashed(name: str) -> str:
    """Return a name as 12 hex digits that only this machine's secret links to it; "" without one.

    Names are few: a plain digest is undone by hashing a list of them.
    """
    secret = _secret()
    if not name or not secret:
        return ""
    return hmac.new(secret.encode(), f"tiebreak:{name}".encode(), "sha256").hexdigest()[:12]


@functools.cache
def _secret() -> str:
    """Return a random text that this machine keeps to itself; empty where it cannot keep any.

    It is systemd's machine id or, without one, drawn once and kept in the cache folder.
    """
    if machine_id := read(Path("/etc/machine-id")):
        return machine_id
    file = cache_folder() / "machine-secret.json"
    if "secret" not in read_cached(file):
        write_cached(file, {"secret": secrets.token_hex(16)})
    return str(read_cached(file).get("secret", ""))


def _hex_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
