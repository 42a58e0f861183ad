"""The machine: its fingerprint, its canary, and who else was using it. The door to all three."""

from __future__ import annotations

import re
import statistics

from tiebreak.bench.machine.contention import CONTENDED, Contention, affinity, contended, throttled
from tiebreak.bench.machine.fingerprint import commit, fingerprint, packages
from tiebreak.bench.worker.clock import Timer

__all__ = [
    "CONTENDED", "Contention", "affinity", "canary", "commit", "contended", "fingerprint",
    "folder_name", "packages", "throttled",
]  # fmt: skip


def folder_name() -> str:
    """What this machine's folder under results/ is called: after its GPUs, else its CPUs."""
    _, about = fingerprint()
    gpus = [text.rpartition(", ")[0] for text in about["gpus"]]  # without their memory
    cpus = f"{about['cpu']} {about['cores']} cores"
    said = f"{gpus[0]} {f'x{len(gpus)}' if gpus[1:] else ''}" if gpus else cpus
    return "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)", "", said.lower())))


def canary() -> dict[str, float]:
    """Seconds that a fixed NumPy product and a fixed Python loop take: the median of five each.

    They open and close a block. They show that the machine has changed; nothing is rescaled.
    """
    import numpy as np

    matrix = np.random.default_rng(0).standard_normal((256, 256), dtype=np.float32)
    out: dict[str, list[float]] = {"numpy_product": [], "python_loop": []}
    for _ in range(5):
        timer = Timer()
        for _ in range(10):
            _ = matrix @ matrix
        out["numpy_product"].append(timer.lap_s())
        total = 0
        for i in range(50_000):
            total += i & 7
        out["python_loop"].append(timer.lap_s())
    return {name: statistics.median(values) for name, values in out.items()}
