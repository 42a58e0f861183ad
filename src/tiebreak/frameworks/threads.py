"""Threads of an array library in this process, set by one function for training and measuring.

It is for processes of our own, a benchmark's worker and the command `tiebreak train`: they begin
with it. `tiebreak.train` leaves the threads of a user's process as they are.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import Any

from tiebreak import registry
from tiebreak.frameworks.runtime import Runtime

POOLS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
"""Thread pools whose size is read from `…_NUM_THREADS` when their library is loaded."""


def threads_for(
    library: str,
    device: str,
    engine: registry.Engine,
    loop: str,
    config: Any,
    cpus: int,
    agents: int = 1,
) -> int:
    """Return the number of threads with which an algorithm with `config` trains fastest.

    One for small networks on a CPU where the framework's array library says so, and one for each
    CPU elsewhere: dividing a small operation costs more than it gains.

    Args:
        library: A row of registry.RUNTIMES.
        device: As in `--device`.
        engine: Of the environments.
        loop: `host` or `fused`.
        config: The algorithm's settings.
        cpus: CPUs that the process may use.
        agents: Agents that one program trains at once.
    """
    below = one_thread_below(library, engine, loop)
    if device != "cpu" or agents * largest_pass(config) >= below:
        return cpus
    return 1


def one_thread_below(library: str, engine: registry.Engine, loop: str) -> int:
    """Return the multiplications of `largest_pass` below which one thread is faster; 0: never."""
    runtime = registry.RUNTIMES[library]
    if loop == "fused":
        return runtime.one_thread_below_fused if engine.light else 0
    return runtime.one_thread_below if engine.kind == "host" else 0


def largest_pass(config: Any) -> int:
    """Return the multiplications of the largest hidden layer for the rows that pass at once.

    Tuples of whole numbers in a configuration are the widths of hidden layers.
    """
    values = [getattr(config, field.name) for field in dataclasses.fields(config)]
    networks = [widths for widths in values if isinstance(widths, tuple) and widths]
    layers = [pair for widths in networks for pair in itertools.pairwise((widths[0], *widths))]
    rows = max(config.rows_per_pass, config.num_envs)
    return rows * max(inputs * outputs for inputs, outputs in layers)


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment variables that give every library `threads` threads at its start."""
    return {
        **{f"{pool}_NUM_THREADS": str(threads) for pool in POOLS},
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "PJRT_NPROC": str(threads),
    }


def make_runtime(framework: str, mode: str, precision: str, device: str, threads: int) -> Runtime:
    """Return a runtime whose library has `threads` threads for one operation, 1 between operations.

    Call it before anything of the library has run: TensorFlow and JAX size their pools then. What
    they have become is in `Runtime.settings`.
    """
    os.environ.update(thread_variables(threads))
    registry.import_packages(framework, mode)
    runtime = registry.make_runtime(framework, mode, precision, device)
    runtime.set_threads(threads)
    return runtime
