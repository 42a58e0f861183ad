"""What JAX says about itself: compilations, fallbacks, memory, settings, read back."""

from __future__ import annotations

from typing import Any

import jax

from tiebreak.frameworks.runtime import count_threads

POOL = "tf_XLAEigen"
"""What XLA calls the threads that compute on a CPU (Linux)."""

_compiles = 0
_listening = False


def compile_count() -> int:
    """Programs compiled since `listen` was first called."""
    return _compiles


def listen() -> None:
    """Count compilations from now on; calling it again changes nothing."""
    global _listening
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(_count)
    _listening = True


def _count(event: str, duration: float, **_: Any) -> None:
    global _compiles
    if event == "/jax/core/compile/backend_compile_duration":
        _compiles += 1


def fallbacks(mode: str) -> dict[str, int]:
    """`jax_disable_jit` makes every jit run op by op."""
    return {"fell_to_eager": int(mode != "eager" and bool(jax.config.jax_disable_jit))}


def memory(device: Any) -> dict[str, int]:
    """Live arrays of all devices; the peak only where the device's allocator keeps one."""
    stats = device.memory_stats() or {}
    out = {"live_bytes": sum(x.nbytes for x in jax.live_arrays())}
    if "peak_bytes_in_use" in stats:
        out["peak_bytes"] = int(stats["peak_bytes_in_use"])
    if "bytes_limit" in stats:
        out["free_bytes"] = int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return out


def settings(device: Any) -> dict[str, Any]:
    """Effective settings of the process; `threads` are those of the pool that are there."""
    return {
        "device": str(device),
        "device_kind": device.device_kind,
        "threads": count_threads(POOL) if device.platform == "cpu" else "unknown",
        "x64": bool(jax.config.jax_enable_x64),
        "matmul_precision": str(getattr(jax.config, "jax_default_matmul_precision", None)),
        "disable_jit": bool(jax.config.jax_disable_jit),
    }
