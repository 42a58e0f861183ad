"""What PyTorch says about itself: compilations, fallbacks, memory, settings, read back."""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch


def compile_count() -> int:
    """Graphs that Dynamo has captured so far."""
    return sum(_counter("stats", "unique_graphs"))


def lock() -> AbstractContextManager[Any]:
    """Recompiling raises inside.

    Not `set_stance("fail_on_recompile")`: it costs 0.8 µs per compiled call, and is silent for a
    function that has reached the recompile limit.
    """
    import torch._dynamo.config as config

    return config.patch(error_on_recompile=True)  # type: ignore[attr-defined]


def fallbacks(mode: str) -> dict[str, int]:
    """Frames that Dynamo gave up, graphs that it broke, CUDA graphs that were not recorded."""
    if mode == "eager":
        return {}
    fell = sum(_counter("unimplemented")) + sum(_counter("inductor", "cudagraph_skips"))
    if not compile_count():  # TORCHDYNAMO_DISABLE, or a stance: everything ran as it is
        fell += 1
    return {"fell_to_eager": fell, "graph_break": sum(_counter("graph_break"))}


def _counter(name: str, key: str | None = None) -> list[int]:
    """The values of one of Dynamo's counters; Dynamo is not imported for it."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    counter = dynamo.counters.get(name, {}) if dynamo else {}
    return [counter.get(key, 0)] if key else list(counter.values())


def memory(device: torch.device) -> dict[str, int]:
    """The caching allocator's own count; it has none for a CPU."""
    if device.type != "cuda":
        return {}
    live, peak = torch.cuda.memory_allocated, torch.cuda.max_memory_allocated
    # What it holds in reserve counts as taken for the driver, and is to be had here.
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - live(device)
    return {"live_bytes": live(device), "peak_bytes": peak(device), "free_bytes": free}


def settings(device: torch.device) -> dict[str, Any]:
    """Effective settings of the process."""
    return {
        "device": str(device),
        "device_kind": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "blas_threads": _blas_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cuda_matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _blas_threads() -> int | str:
    """Threads of MKL, which torch was built with or was not."""
    found = re.search(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
    return int(found[1]) if found else "unknown"
