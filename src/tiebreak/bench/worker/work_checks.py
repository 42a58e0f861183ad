"""Proof that a probe did its work, all of it and on what it was given; outside the clock."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np


def checksum(weights: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, shapes and values, in the order of the names; "" of nothing."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest() if weights else ""


def fail(result: dict[str, Any], flag: str, value: float | str, reason: str) -> None:
    """Flag it, and say that the measurement does not count; the first reason stays.

    Samples are kept: they show what went wrong.
    """
    result["flags"].setdefault(flag, value)
    if result["status"] == "ok":
        result.update(status="failed", error=reason, value_s=None)


class Work:
    """Counts a probe's calls, and remembers what there was before the first."""

    def __init__(self, probe: Any):
        self.probe = probe
        self.calls = 0
        self.output: Any = None
        self.counted = dict(probe.counted())
        self.before = checksum(probe.weights())

    def call(self) -> Any:
        """The probe's call."""
        self.calls += 1
        self.output = self.probe.call()
        return self.output

    def prove(self, result: dict[str, Any]) -> None:
        """Compare what was counted with what was asked for; into `result`."""
        probe, after = self.probe, checksum(self.probe.weights())
        work = {k: v - self.counted[k] for k, v in probe.counted().items()}
        numbers = probe.numbers(self.output)
        bad = [name for name, value in numbers.items() if value - value != 0]
        finite = {k: None if k in bad else v for k, v in numbers.items()}
        result["work"] = {**work, "calls": self.calls, "weights_sha256": after, **finite}
        for name, each in probe.expected.items():
            if short := work[name] - self.calls * each:
                reason = f"{name} differ by {short} from what {self.calls} calls should have done"
                fail(result, "work_mismatch", short, reason)
        if probe.learns and after == self.before:
            reason = f"{self.calls} calls left the weights as they were"
            fail(result, "work_mismatch", 0, reason)
        if bad:
            fail(result, "nan", len(bad), f"not finite: {', '.join(bad)}")
        self._inputs(result)

    def _inputs(self, result: dict[str, Any]) -> None:
        """Real inputs, and outputs that depend on them."""
        inputs = [np.asarray(array) for array in self.probe.inputs()]
        constant = sum(array.size > 1 and bool((array == array.flat[0]).all()) for array in inputs)
        result["work"]["inputs"] = len(inputs)
        if constant:
            reason = f"{constant} of its {len(inputs)} inputs are zeros, or one number throughout"
            fail(result, "work_mismatch", constant, reason)
        if self.probe.varies is not None:
            result["work"]["varies"] = varies = bool(self.probe.varies())
            if not varies:
                reason = "its outputs do not depend on its inputs and weights: dead code?"
                fail(result, "work_mismatch", 0, reason)


def parity(result: dict[str, Any], cell: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """Compare settings that were read back with what was asked for; into `result`.

    What cannot be read back says "unknown", and is not compared.
    """
    settings, threads = result["settings"], job["threads"]
    settings["omp_num_threads"] = os.environ.get("OMP_NUM_THREADS", "unknown")
    settings["affinity"] = "unknown"
    if hasattr(os, "sched_getaffinity"):
        settings["affinity"] = sorted(os.sched_getaffinity(0))
    everywhere = ("threads", "intra_op_threads", "blas_threads", "xla_threads")
    asked: dict[str, Any] = dict.fromkeys(everywhere, threads)
    asked |= {"interop_threads": 1, "inter_op_threads": 1, "precision": cell["precision"]}
    asked |= {"omp_num_threads": str(threads), "affinity": sorted(job["cpus"])}
    if cell["precision"] != "tf32":  # bfloat16 is the networks' alone: the rest is float32
        asked["matmul_keeps_2^-12"] = True
    elif cell["device"] != "cpu":  # a CPU computes in float32 whatever it is told
        asked["matmul_keeps_2^-12"] = False
    read = {name: settings.get(name, "unknown") for name in asked}
    wrong = {k: v for k, v in read.items() if v not in (asked[k], "unknown")}
    if wrong:
        said = ", ".join(f"{k} {v}" for k, v in wrong.items())
        meant = ", ".join(f"{k} {asked[k]}" for k in wrong)
        fail(result, "parity_mismatch", said, f"settings read back: {said}; set were: {meant}")
