"""What TensorFlow says about itself: traces, fallbacks, memory, settings, read back."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from tiebreak.frameworks.runtime import Retraced, count_threads
from tiebreak.frameworks.tensorflow.quiet_import import context, tf

POOL = "tf_XLAEigen"
"""What XLA calls the threads that compute on a CPU (Linux)."""

_seen: set[str] = set()
_without_xla = 0
_locked = False


def trace_count() -> int:
    """Graphs traced in this process so far, by anybody: each gets a name of its own.

    Those that came and went between two calls are not seen.
    """
    names: list[str] = context.context().list_function_names()  # type: ignore[union-attr]
    _seen.update(name for name in names if name.startswith("__inference_"))
    return len(_seen)


def check_trace(name: str) -> None:
    """Raises Retraced under `lock`: for the functions that are ours, before they are traced."""
    if _locked:
        raise Retraced(f"{name} was traced anew")


def count_graph(graph: Any, xla: bool) -> None:
    """Read back whether a traced graph is one that XLA must compile, as it was asked to be."""
    global _without_xla
    attributes = graph.function_def.attr
    must = "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b
    _without_xla += xla and not must


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """The number of traces is frozen inside."""
    global _locked
    _locked = True
    try:
        yield
    finally:
        _locked = False


def fallbacks(mode: str) -> dict[str, int]:
    """Graphs that XLA was to compile and does not, and a process that runs functions eagerly."""
    if mode == "eager":
        return {}
    return {"fell_to_eager": _without_xla + bool(tf.config.functions_run_eagerly())}


def memory(device: str) -> dict[str, int]:
    """The GPU allocator's own count; there is none for a CPU."""
    if "GPU" not in device:
        return {}
    info = tf.config.experimental.get_memory_info(device.lstrip("/"))
    return {"live_bytes": info["current"], "peak_bytes": info["peak"]}


def settings(device: str) -> dict[str, Any]:
    """Effective settings of the process."""
    return {
        "device": device,
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
        # JAX, where it runs the environment, has a pool of the same name.
        "xla_threads": "unknown" if "jax" in sys.modules else count_threads(POOL),
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "jit": str(tf.config.optimizer.get_jit()),
        "functions_run_eagerly": tf.config.functions_run_eagerly(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "tf_xla_flags": os.environ.get("TF_XLA_FLAGS", ""),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
    }
