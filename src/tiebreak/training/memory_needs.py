"""Refuse, before anything is allocated, a training or an evaluation that cannot fit into memory.

The needs are lower bounds, from shapes alone: whatever is refused would have failed. What passes
may still fail; fused loops and replays add up their own needs exactly once they know them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak.core.errors import MissingMemory
from tiebreak.core.off_policy import OffPolicyConfig
from tiebreak.core.procfs import available_bytes
from tiebreak.core.text import quoted
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.replay import required_bytes
from tiebreak.frameworks.weights import least_parameters

ENV_BYTES = 128
"""An environment takes more than this, in every engine; those in Python take 10 kB and more."""
TRAINED_COPIES = 3
"""A parameter and its two Adam moments."""


def require_training(spec: EnvSpec, config: Any, agents: int, on_host: bool, episodes: int) -> None:
    """Raise MissingMemory if a training of `agents` at once cannot fit.

    `on_host` says whether the agents live in the machine's memory, not in an accelerator's.
    """
    sizes = {name: value for name, value in vars(config).items() if name.endswith("sizes")}
    networks = " ".join(f"{name}={quoted(value, 60)}" for name, value in sizes.items())
    parameters = 4 * least_parameters(spec, config)
    needs = {
        networks: parameters * (TRAINED_COPIES if on_host else 1),
        f"{episodes} evaluation episodes at once": _env_bytes(spec, episodes),
    }
    if on_host:
        needs |= _data_needs(spec, config)
    _require("the training", needs, agents)


def _data_needs(spec: EnvSpec, config: Any) -> dict[str, int]:
    """Return what environments, rollout or replay, and batches take, by the setting to change."""
    num_envs = config.num_envs
    envs = {f"num_envs={num_envs}": _env_bytes(spec, num_envs)}
    if not isinstance(config, OffPolicyConfig):
        rollout = num_envs * config.num_steps * _observation_bytes(spec)
        return {**envs, f"num_envs × num_steps = {num_envs * config.num_steps}": rollout}
    batch = config.num_updates * config.batch_size
    return {
        **envs,
        f"replay_size={config.replay_size}": required_bytes(spec, config),
        f"num_updates × batch_size = {batch}": 4 * batch,
    }


def require_evaluation(spec: EnvSpec, episodes: int) -> None:
    """Raise MissingMemory if the environments of an evaluation, one per episode, cannot fit."""
    _require("the evaluation", {f"{episodes} episodes at once": _env_bytes(spec, episodes)})


def _env_bytes(spec: EnvSpec, count: int) -> int:
    return count * (ENV_BYTES + _observation_bytes(spec))


def _observation_bytes(spec: EnvSpec) -> int:
    return np.dtype(spec.observation_dtype).itemsize * spec.visible_size


def _require(what: str, needs: dict[str, int], agents: int = 1) -> None:
    needed, free = agents * sum(needs.values()), available_bytes()
    if needed <= free:
        return
    largest = max(needs, key=lambda name: needs[name])
    of_many = f", times {agents} agents" if agents > 1 else ""
    raise MissingMemory(
        f"{what} takes at least {needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB are free "
        f"here; most of it is for {largest}{of_many}: make that smaller"
    )
