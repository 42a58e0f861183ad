"""Time a fixed computation before and after each block, to see whether the machine changed."""

from __future__ import annotations

import statistics

from tiebreak.bench.clock import Timer

REPETITIONS = 5


def canary() -> dict[str, float]:
    """Return seconds of a fixed NumPy product and of a fixed Python loop, the median of five each.

    The two values are only compared with one another; nothing is rescaled by them.
    """
    import numpy as np

    matrix = np.random.default_rng(0).standard_normal((256, 256), dtype=np.float32)
    seconds: dict[str, list[float]] = {"numpy_product": [], "python_loop": []}
    for _ in range(REPETITIONS):
        timer = Timer()
        for _ in range(10):
            _ = matrix @ matrix
        seconds["numpy_product"].append(timer.lap_s())

        total = 0
        for i in range(50_000):
            total += i & 7
        seconds["python_loop"].append(timer.lap_s())
    return {name: statistics.median(values) for name, values in seconds.items()}
