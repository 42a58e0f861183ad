"""Threads of an array library in this process, set by one function for training and measuring.

It is for processes of our own, a benchmark's worker and the command `tiebreak train`: they begin
with it. `tiebreak.train` leaves the threads of a user's process as they are.
"""

from __future__ import annotations

import os

from tiebreak import registry
from tiebreak.frameworks.runtime import Runtime

POOLS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
"""Thread pools whose size is read from `…_NUM_THREADS` when their library is loaded."""


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
    for package in registry.framework(framework).packages:
        registry.load(package)
    runtime = registry.make_runtime(framework, mode, precision, device)
    runtime.set_threads(threads)
    return runtime
