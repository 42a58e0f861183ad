"""Lines of the log: the progress of some runs of a loop, summed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def summarize(parts: Sequence[Any]) -> dict[str, Any]:
    """Sum up one agent's progress.

    Args:
        parts: Progress of consecutive runs, as NumPy.

    Returns:
        `episodes`; `mean_return` and `mean_length` over them, None while no episode has ended; and
        the mean of each of the algorithm's metrics.
    """
    episodes = int(sum(np.sum(p.episodes) for p in parts))
    line: dict[str, Any] = {"episodes": episodes, "mean_return": None, "mean_length": None}
    if episodes:
        line["mean_return"] = float(sum(np.sum(p.return_sum) for p in parts)) / episodes
        line["mean_length"] = float(sum(np.sum(p.length_sum) for p in parts)) / episodes

    metrics = [p.metrics for p in parts if hasattr(p.metrics, "_fields")]
    for name in metrics[0]._fields if metrics else ():
        values = [np.ravel(getattr(m, name)) for m in metrics]
        line[name] = float(np.mean(np.concatenate(values), dtype=np.float64))
    return line


def summarize_agents(parts: Sequence[Any]) -> dict[str, Any]:
    """Sum up the progress of a population: like `summarize`, with a list over agents per name."""
    sums = {}
    for field in ("episodes", "return_sum", "length_sum"):
        total = np.sum([getattr(p, field) for p in parts], axis=0, dtype=np.float64)
        sums[field] = np.atleast_1d(total).tolist()

    episodes = sums["episodes"]
    line: dict[str, Any] = {"episodes": [int(n) for n in episodes]}
    for name, total in (("mean_return", "return_sum"), ("mean_length", "length_sum")):
        pairs = zip(sums[total], episodes, strict=True)
        line[name] = [x / n if n else None for x, n in pairs]

    metrics = [p.metrics for p in parts if p.metrics is not None]
    for name in metrics[0]._fields if metrics else ():
        values = [getattr(m, name) for m in metrics]
        line[name] = np.mean(values, axis=0, dtype=np.float64).tolist()
    return line


def mean_over_agents(value: Any) -> float | None:
    """Return a number of the log; for a population, the mean over the agents that have one."""
    values = value if isinstance(value, list) else [value]
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
