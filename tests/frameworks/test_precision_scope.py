"""Making and using agents leaves the precision of the process alone, and theirs is their own."""

from __future__ import annotations

import numpy as np
import pytest

import tiebreak

SPEC = tiebreak.EnvSpec.make(observation_shape=(4,), num_actions=2)


@pytest.fixture
def jax():
    """JAX with a user's own settings, which are put back."""
    module = pytest.importorskip("jax")
    names = ("jax_enable_x64", "jax_default_matmul_precision")
    before = [getattr(module.config, name) for name in names]
    module.config.update("jax_enable_x64", True)
    module.config.update("jax_default_matmul_precision", None)
    yield module
    for name, value in zip(names, before, strict=True):
        module.config.update(name, value)


def test_a_float64_agent_stays_one_beside_a_float32_one_and_the_users_settings_stay(jax):
    batch, noise = tiebreak.sample_batch("ppo", SPEC, None, np.random.default_rng(0))
    wide = tiebreak.make_agent("ppo", "linen", SPEC, precision="float64")
    narrow = tiebreak.make_agent("ppo", "linen", SPEC)
    for agent, dtype in ((wide, np.float64), (narrow, np.float32), (wide, np.float64)):
        state, _ = agent.step(agent.init(0), batch, noise)
        assert agent.dump(state)["actor/0/kernel"].dtype == dtype
    assert jax.numpy.arange(3.0).dtype == np.float64
    assert jax.config.jax_default_matmul_precision is None
