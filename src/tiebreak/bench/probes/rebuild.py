"""The probe `rebuild`: an agent made anew, used once and dropped, for what that leaves behind.

Whoever sweeps over settings or seeds in one process does this; what stays in a compiler's caches
adds up. Compiling is the point, so nothing is locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.bench.probes.base import Probe
from tiebreak.core.seeding import derive


def rebuild(cell: Mapping[str, Any], spec: Any, config: Any, seed: int) -> Probe:
    """Each call: runtime, agent, weights, one step on a random batch; only its metrics are kept."""
    rng = np.random.default_rng(derive(seed, "rebuild"))
    batch, draws = registry.sample_batch(cell["algorithm"], spec, config, rng)
    built = [0]

    def call() -> Any:
        runtime = registry.make_runtime(
            cell["framework"], cell["mode"], cell["precision"], cell["device"]
        )
        raw = registry.make_raw_agent(cell["algorithm"], spec, config, runtime)
        agent = runtime.agent(raw)
        _, metrics = agent.step(agent.init(derive(seed, "agent", built[0])), batch, draws)
        built[0] += 1
        return runtime.to_numpy(metrics)

    return Probe(
        "agents",
        1,
        call,
        expected={"agents": 1},
        counted=lambda: {"agents": built[0]},
        numbers=lambda metrics: {k: float(np.ravel(v)[-1]) for k, v in metrics._asdict().items()},
        inputs=lambda: [array for array in batch if array.dtype.kind == "f"],
        compiles=True,
    )
