"""The replay in JAX: a ring of transitions as pure functions, for host and fused loops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.off_policy import Batch, OffPolicyConfig, Transition
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.replay import bounded


class Replay(NamedTuple):
    """Ring of C transitions: row p holds step p // N of environment p % N."""

    obs: jax.Array
    """[C, observation_size]"""
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: jax.Array
    count: jax.Array
    """int32: rows written so far; once it has reached 2·C, less C, so that it never overflows"""


def create(spec: EnvSpec, config: OffPolicyConfig, device: str) -> Replay:
    """Return an empty ring."""
    del device  # where computations are committed to
    rows = config.ring_length * config.num_envs
    flag = jnp.zeros(rows, bool)
    discrete = jnp.zeros(rows, jnp.int32)
    action = discrete if spec.discrete else jnp.zeros((rows, spec.action_size), jnp.float32)
    reward, count = jnp.zeros(rows, jnp.float32), jnp.zeros((), jnp.int32)
    ends = flag, jnp.zeros_like(flag)
    obs = jnp.zeros((rows, spec.observation_size), spec.observation_dtype)
    return Replay(obs, action, reward, *ends, jnp.zeros_like(obs), count)


def add(replay: Replay, rows: Transition) -> Replay:
    """Return the ring with a round [T, N, …] written over the oldest one."""
    slot = replay.count % len(replay.reward)

    def write(ring, new):
        new = jnp.asarray(new, ring.dtype).reshape(-1, *ring.shape[1:])
        return jax.lax.dynamic_update_slice_in_dim(ring, new, slot, axis=0)

    written = (write(ring, new) for ring, new in zip(replay, rows, strict=False))
    count, size = replay.count + rows.reward.size, len(replay.reward)
    return Replay(*written, count=jnp.where(count < 2 * size, count, count - size))


def load(replay: Replay, arrays: Mapping[str, np.ndarray]) -> Replay:
    """Return an empty ring filled with stored rows and their count."""
    rows = (
        ring.at[: len(arrays[name])].set(arrays[name])
        for name, ring in replay._asdict().items()
        if name != "count"
    )
    count = bounded(int(arrays["count"]), len(replay.reward))
    return Replay(*rows, count=replay.count.at[()].set(count))


def sample(replay: Replay, index: jax.Array, config: OffPolicyConfig) -> Batch:
    """Return the transitions at `index` […], each followed for up to n steps.

    A transition ends early with its episode. `index` holds integers in [0, 2³¹), which are taken
    modulo the number of stored transitions; 0 is the oldest.
    """
    size, gamma = len(replay.reward), config.gamma
    filled = jnp.minimum(replay.count, size)
    starts = filled - (config.n_step - 1) * config.num_envs
    first = replay.count - filled + index % starts

    last = row = first % size
    reward, discount = jnp.zeros(index.shape), jnp.ones(index.shape)
    going_on = jnp.ones(index.shape, bool)
    for k in range(config.n_step):
        row = (first + k * config.num_envs) % size
        reward = reward + jnp.where(going_on, gamma**k * replay.reward[row], 0.0)
        discount = jnp.where(going_on, gamma ** (k + 1), discount)
        last = jnp.where(going_on, row, last)
        going_on = going_on & ~(replay.terminated[row] | replay.truncated[row])
    stopped = replay.terminated[last]
    if config.truncation == "terminal":
        stopped = stopped | replay.truncated[last]
    discount = jnp.where(stopped, 0.0, discount)
    return Batch(
        obs=replay.obs[first % size],
        action=replay.action[first % size],
        reward=reward,
        discount=discount,
        next_obs=replay.next_obs[last],
    )
