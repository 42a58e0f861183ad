"""The replay ring in PyTorch: tensors that are written in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from tiebreak.core.off_policy import Batch, OffPolicyConfig, Transition
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.replay import bounded


class Replay(NamedTuple):
    """Ring of C rows: row p holds step p // N of environment p % N; new rows replace the oldest."""

    obs: torch.Tensor
    """[C, observation_size], as is `next_obs`."""
    action: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    next_obs: torch.Tensor
    count: torch.Tensor
    """int64 scalar: number of rows written so far; once it has reached 2·C, less C: positions in
    `sample` are int32."""
    written: list[int]
    """`count` on the host, so that writing reads nothing from the device."""


def create(spec: EnvSpec, config: OffPolicyConfig, device: str) -> Replay:
    """Return an empty ring."""
    rows = config.ring_length * config.num_envs

    def zeros(*shape, dtype=torch.float32):
        return torch.zeros(shape, dtype=dtype, device=device)

    size, obs_dtype = spec.observation_size, getattr(torch, spec.observation_dtype)
    action = zeros(rows, dtype=torch.int32) if spec.discrete else zeros(rows, spec.action_size)
    return Replay(
        obs=zeros(rows, size, dtype=obs_dtype),
        action=action,
        reward=zeros(rows),
        terminated=zeros(rows, dtype=torch.bool),
        truncated=zeros(rows, dtype=torch.bool),
        next_obs=zeros(rows, size, dtype=obs_dtype),
        count=zeros(dtype=torch.int64),
        written=[0],
    )


def add(replay: Replay, rows: Transition) -> Replay:
    """Write a round [T, N, …] over the oldest one."""
    size, new_rows = len(replay.reward), int(np.prod(rows.reward.shape))
    slot = replay.written[0] % size
    for name, new in rows._asdict().items():
        ring = getattr(replay, name)
        new = torch.as_tensor(new).reshape(-1, *ring.shape[1:])
        ring[slot : slot + new_rows].copy_(new, non_blocking=True)
    replay.written[0] = bounded(replay.written[0] + new_rows, size)
    replay.count.fill_(replay.written[0])
    return replay


def load(replay: Replay, arrays: Mapping[str, np.ndarray]) -> Replay:
    """Restore stored rows and their count into an empty ring."""
    for name, array in arrays.items():
        if name != "count":
            getattr(replay, name)[: len(array)].copy_(torch.from_numpy(array))
    replay.written[0] = bounded(int(arrays["count"]), len(replay.reward))
    replay.count.fill_(replay.written[0])
    return replay


@torch.no_grad()
def sample(replay: Replay, index: torch.Tensor, config: OffPolicyConfig) -> Batch:
    """Return the transitions at `index` […], each with up to n steps of its environment.

    `index`: integers in [0, 2³¹), taken modulo the number of stored transitions, oldest first. The
    end of an episode ends a transition's steps.
    """
    size, gamma = len(replay.reward), config.gamma
    filled = replay.count.clamp(max=size)
    starts = filled - (config.n_step - 1) * config.num_envs
    first = replay.count - filled + index % starts
    last = row = first % size
    reward = torch.zeros(index.shape, device=index.device)
    discount, ongoing = torch.ones_like(reward), torch.ones_like(index, dtype=torch.bool)
    for k in range(config.n_step):
        row = (first + k * config.num_envs) % size
        reward = reward + torch.where(ongoing, gamma**k * replay.reward[row], 0.0)
        discount = torch.where(ongoing, gamma ** (k + 1), discount)
        last = torch.where(ongoing, row, last)
        ongoing = ongoing & ~(replay.terminated[row] | replay.truncated[row])
    stopped = replay.terminated[last]
    if config.truncation == "terminal":
        stopped = stopped | replay.truncated[last]
    discount = torch.where(stopped, 0.0, discount)
    return Batch(
        obs=replay.obs[first % size],
        action=replay.action[first % size],
        reward=reward,
        discount=discount,
        next_obs=replay.next_obs[last],
    )
