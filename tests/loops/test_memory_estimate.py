"""The memory of a fused loop, against bytes counted by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import pytest

jnp = pytest.importorskip("jax.numpy")

from tiebreak.core.noise import Draw  # noqa: E402
from tiebreak.loops.memory_estimate import estimate  # noqa: E402


class Draws(NamedTuple):
    act: Draw
    step: Draw


def test_every_array_is_counted_once():
    num_envs, steps = 3, 8
    loop = SimpleNamespace(
        state={"weights": jnp.zeros((5, 2)), "count": jnp.zeros((), jnp.int32)},
        _carry=(jnp.zeros((num_envs, 4)), jnp.zeros(num_envs, bool)),
        obs=jnp.zeros((num_envs, 4)),
        env=SimpleNamespace(num_envs=num_envs, draw=lambda key, steps: jnp.zeros((steps, 3, 2))),
        config=SimpleNamespace(iteration_steps=num_envs * steps),
        _draws=Draws(Draw("normal", (steps, num_envs, 1)), Draw("permutation", (2, 24))),
        _keys=("of the agent", jnp.zeros(2)),
    )
    memory = estimate(loop)

    weights, carry = 5 * 2 * 4 + 4, num_envs * 4 * 4 + num_envs
    assert memory.agent_bytes == weights + carry == 95
    draws = 4 * (steps * num_envs * 1 + 2 * 24)
    env_draws = 4 * steps * 3 * 2
    # In each step: an observation and the next one, four float32 each, and six numbers more.
    rollout = steps * num_envs * (2 * 4 * 4 + 6 * 4)
    assert memory.working_bytes == draws + env_draws + rollout == 1824
    assert memory.total_bytes == 95 + 1824
