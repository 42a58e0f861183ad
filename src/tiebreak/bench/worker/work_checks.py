"""Check, off the clock, that a probe did all of its work, on real inputs, with the right settings.

A check that fails sets a flag and invalidates the result.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiebreak.bench.probes.base import Probe
from tiebreak.bench.record import Result
from tiebreak.bench.suite.plan import Cell


def checksum(weights: Mapping[str, np.ndarray]) -> str:
    """Return sha256 of names, shapes, dtypes and values, sorted by name; empty for no weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest() if weights else ""


def invalidate(result: Result, flag: str, value: float | str, reason: str) -> None:
    """Set a flag and mark the result as failed. The first reason stays; samples are kept."""
    result["flags"].setdefault(flag, value)
    if result["status"] == "ok":
        result.update(status="failed", error=reason, value_s=None)


class Work:
    """Counts the calls of a probe, and keeps its state before the first."""

    def __init__(self, probe: Probe):
        self.probe = probe
        self.calls = 0
        self.output: Any = None
        self.counted = dict(probe.counted())
        self.before = checksum(probe.weights())

    def call(self) -> Any:
        """Call the probe."""
        self.calls += 1
        self.output = self.probe.call()
        return self.output

    def check(self, result: Result) -> None:
        """Compare counted with expected work; store both, and failures, in `result`."""
        probe, after = self.probe, checksum(self.probe.weights())
        work = {name: count - self.counted[name] for name, count in probe.counted().items()}
        numbers = probe.numbers(self.output)
        not_finite = [name for name, value in numbers.items() if value - value != 0]
        result["work"] = {
            **work,
            "calls": self.calls,
            "weights_sha256": after,
            **{name: None if name in not_finite else value for name, value in numbers.items()},
        }

        for name, per_call in probe.expected.items():
            if difference := work[name] - self.calls * per_call:
                reason = (
                    f"{name} differ by {difference} from what {self.calls} calls should have done"
                )
                invalidate(result, "work_mismatch", difference, reason)
        if probe.learns and after == self.before:
            reason = f"{self.calls} calls left the weights as they were"
            invalidate(result, "work_mismatch", 0, reason)
        if not_finite:
            invalidate(result, "nan", len(not_finite), f"not finite: {', '.join(not_finite)}")
        self._check_inputs(result)
        self._recount(result)

    def _recount(self, result: Result) -> None:
        """Compare what the code under test says that it did with what was seen from outside."""
        if self.probe.recount is None:
            return
        claimed, seen, moved = self.probe.recount()
        result["work"]["seen"] = dict(seen)
        if not moved:
            invalidate(result, "work_mismatch", 0, "a call more left the weights as they were")
        for name, number in seen.items():
            if number < claimed[name]:
                reason = f"it counts {claimed[name]} {name} in a call of which {number} were seen"
                invalidate(result, "work_mismatch", claimed[name] - number, reason)

    def _check_inputs(self, result: Result) -> None:
        """Check that inputs are not constant, and that outputs depend on them."""
        inputs = [np.asarray(array) for array in self.probe.inputs()]
        constant = sum(array.size > 1 and bool((array == array.flat[0]).all()) for array in inputs)
        result["work"]["inputs"] = len(inputs)
        if constant:
            reason = f"{constant} of its {len(inputs)} inputs are zeros, or one number throughout"
            invalidate(result, "work_mismatch", constant, reason)
        if self.probe.varies is not None:
            varies = bool(self.probe.varies())
            result["work"]["varies"] = varies
            if not varies:
                reason = "its outputs do not depend on its inputs and weights: dead code?"
                invalidate(result, "work_mismatch", 0, reason)


def check_parity(result: Result, cell: Cell, threads: int, cpus: Sequence[int]) -> None:
    """Compare settings read back from the library with those that were set.

    A setting that cannot be read back is "unknown" and is not compared.
    """
    settings = result["settings"]
    settings["omp_num_threads"] = os.environ.get("OMP_NUM_THREADS", "unknown")
    settings["affinity"] = "unknown"
    if hasattr(os, "sched_getaffinity"):
        settings["affinity"] = sorted(os.sched_getaffinity(0))

    expected = _expected_settings(cell, threads, cpus)
    actual = {name: settings.get(name, "unknown") for name in expected}
    wrong = {k: v for k, v in actual.items() if v not in (expected[k], "unknown")}
    if wrong:
        read_back = ", ".join(f"{name} {value}" for name, value in wrong.items())
        were_set = ", ".join(f"{name} {expected[name]}" for name in wrong)
        reason = f"settings read back: {read_back}; set were: {were_set}"
        invalidate(result, "parity_mismatch", read_back, reason)


def _expected_settings(cell: Cell, threads: int, cpus: Sequence[int]) -> dict[str, Any]:
    thread_pools = ("threads", "intra_op_threads", "blas_threads", "xla_threads")
    expected: dict[str, Any] = {
        **dict.fromkeys(thread_pools, threads),
        "interop_threads": 1,
        "inter_op_threads": 1,
        "precision": cell.precision,
        "omp_num_threads": str(threads),
        "affinity": sorted(cpus),
    }
    if cell.precision != "tf32":  # bfloat16 holds for networks only: the rest is float32
        expected["matmul_keeps_2^-12"] = True
    elif cell.device != "cpu":  # a CPU computes in float32 in any case
        expected["matmul_keeps_2^-12"] = False
    return expected
