"""The replay in TensorFlow: a ring of variables, written in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.core.off_policy import Batch, OffPolicyConfig, Transition
from tiebreak.core.types import Array, EnvSpec


class Replay(NamedTuple):
    """Row p holds step p // N of environment p % N; new rows overwrite the oldest."""

    obs: Array
    """[C, observation_size]."""
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Array
    count: Array
    """Rows written so far, int64."""


def create(spec: EnvSpec, config: OffPolicyConfig, device: str) -> Replay:
    """Allocate an empty ring."""
    rows, size = config.ring_length * config.num_envs, spec.observation_size

    def zeros(*shape, dtype="float32"):
        return tf.Variable(tf.zeros(shape, dtype), trainable=False)

    with tf.device(device):
        return Replay(
            obs=zeros(rows, size, dtype=spec.observation_dtype),
            action=zeros(rows, dtype="int32") if spec.discrete else zeros(rows, spec.action_size),
            reward=zeros(rows),
            terminated=zeros(rows, dtype="bool"),
            truncated=zeros(rows, dtype="bool"),
            next_obs=zeros(rows, size, dtype=spec.observation_dtype),
            count=zeros(dtype="int64"),
        )


def add(replay: Replay, rows: Transition) -> Replay:
    """Write a round [T, N, …] over the oldest one."""
    written = rows.reward.shape.num_elements()
    slot = replay.count % replay.reward.shape[0] + tf.range(written, dtype="int64")
    for ring, new in zip(replay[: len(rows)], rows, strict=True):
        new = tf.reshape(tf.cast(new, ring.dtype), (written, *ring.shape[1:]))
        tf.raw_ops.ResourceScatterUpdate(resource=ring.handle, indices=slot, updates=new)
    replay.count.assign_add(written)
    return replay


def load(replay: Replay, arrays: Mapping[str, np.ndarray]) -> Replay:
    """Fill an empty ring with stored rows and their count."""
    for name, ring in replay._asdict().items():
        if name != "count":
            ring[: len(arrays[name])].assign(arrays[name])
    replay.count.assign(arrays["count"])
    return replay


def sample(replay: Replay, index: Array, config: OffPolicyConfig) -> Batch:
    """Return the n-step transitions that start at `index` […], counted from the oldest.

    Indices are integers in [0, 2³¹), taken modulo the number of possible starts. Each transition
    follows its environment for up to n steps, or to the end of its episode.
    """
    size, gamma = replay.reward.shape[0], config.gamma
    count = tf.convert_to_tensor(replay.count)
    filled = tf.minimum(count, size)
    starts = filled - (config.n_step - 1) * config.num_envs
    first = count - filled + tf.cast(index, "int64") % starts
    last = row = first % size
    reward, discount = tf.zeros(index.shape), tf.ones(index.shape)
    going = tf.ones(index.shape, "bool")
    for k in range(config.n_step):
        row = (first + k * config.num_envs) % size
        reward = reward + tf.where(going, gamma**k * tf.gather(replay.reward, row), 0.0)
        discount = tf.where(going, gamma ** (k + 1), discount)
        last = tf.where(going, row, last)
        ended = tf.gather(replay.terminated, row) | tf.gather(replay.truncated, row)
        going = going & ~ended
    stopped = tf.gather(replay.terminated, last)
    if config.truncation == "terminal":
        stopped = stopped | tf.gather(replay.truncated, last)
    discount = tf.where(stopped, 0.0, discount)
    return Batch(
        obs=tf.gather(replay.obs, first % size),
        action=tf.gather(replay.action, first % size),
        reward=reward,
        discount=discount,
        next_obs=tf.gather(replay.next_obs, last),
    )
