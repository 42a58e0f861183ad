"""Precision bfloat16: networks compute in it, everything that is kept stays float32."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.verify.case import cast, fixed, perturbed_weights

PAIRS = [
    ("torch", "eager"),
    ("tensorflow", "eager"),
    *(
        pytest.param(name, row.default_mode, marks=pytest.mark.slow(share=0.04))
        for name, row in registry.FRAMEWORKS.items()
        if row.runtime == "jax"
    ),
]


@pytest.mark.parametrize("algorithm", registry.algorithms_with("bfloat16"))
@pytest.mark.parametrize(("framework", "mode"), PAIRS)
def test_networks_alone_compute_in_bfloat16(framework, mode, algorithm):
    if registry.missing_packages(registry.framework(framework).packages):
        pytest.skip(f"{framework} is not installed")
    case = fixed(algorithm, "continuous").changed(weight_decay=0.0)
    weights = cast(perturbed_weights(case), "float32")
    batch, noise = cast(case.cases.batch_near(case, weights), "float32")
    ends, actions = [], []
    for precision in ("float32", "bfloat16"):
        runtime = registry.make_runtime(framework, mode, precision)
        agent = runtime.agent(registry.make_raw_agent(algorithm, case.spec, case.config, runtime))
        state = agent.load(weights)
        act = agent.act(state, batch.obs[0], np.zeros_like(batch.action[0]))
        actions.append(np.array(runtime.to_numpy(act).raw_action))
        state, _ = agent.step(state, batch, noise)
        ends.append(agent.dump(state))
    exact, mixed = ends
    assert {k: v.dtype for k, v in mixed.items()} == {k: v.dtype for k, v in exact.items()}
    assert 1e-4 < np.abs(actions[1] - actions[0]).max() < 2e-2
    moved = {k: mixed[k] - weights[k] for k in mixed if k.split("/")[0] in ("actor", "critic1")}
    changes = np.concatenate([np.abs(x[x != 0.0]).ravel() for x in moved.values()])
    assert np.median(changes) < 2**-9  # steps that weights in bfloat16 would mostly not feel
    assert len(changes) > 0.5 * sum(x.size for x in moved.values())
