"""Probe that makes an agent anew in every call, to measure the memory that this leaves behind.

A sweep over settings or seeds in one process does this; what remains in a compiler's caches adds
up. Compiling is the work, so it is not locked out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.bench.probes.base import Probe
from tiebreak.core.seeding import derive


def rebuild(subject: Any) -> Probe:
    """Build the probe: runtime, agent, weights and one gradient step in a call."""
    cell, spec, config = subject.cell, subject.spec, subject.config
    rng = np.random.default_rng(derive(subject.seed, "rebuild"))
    batch, draws = registry.sample_batch(cell.algorithm, spec, config, rng)
    built = [0]

    def call() -> Any:
        runtime = registry.make_runtime(cell.framework, cell.mode, cell.precision, cell.device)
        raw = registry.make_raw_agent(cell.algorithm, spec, config, runtime)
        agent = runtime.agent(raw)
        state = agent.init(derive(subject.seed, "agent", built[0]))
        _, metrics = agent.step(state, batch, draws)
        built[0] += 1
        return runtime.to_numpy(metrics)

    return Probe(
        unit="agents",
        units_per_call=1,
        call=call,
        expected={"agents": 1},
        counted=lambda: {"agents": built[0]},
        numbers=lambda metrics: {k: float(np.ravel(v)[-1]) for k, v in metrics._asdict().items()},
        inputs=lambda: [array for array in batch if array.dtype.kind == "f"],
        compiles=True,
    )
