"""Every algorithm learns a task of two steps, and does not where its loop has a fault.

A sample in each run, drawn by the printed seed; the proofs and the host loops' tests carry
over to the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from training.echo import FAULTS, Echo

from tiebreak import registry
from tiebreak.algorithms.dqn.config import Config as DQN
from tiebreak.algorithms.fastsac.config import Config as FastSAC
from tiebreak.algorithms.fasttd3.config import Config as FastTD3
from tiebreak.algorithms.mpo.config import Config as MPO
from tiebreak.algorithms.ppo.config import Config as PPO
from tiebreak.algorithms.pqn.config import Config as PQN
from tiebreak.algorithms.sac.config import Config as SAC
from tiebreak.algorithms.td3.config import Config as TD3
from tiebreak.loops import base
from tiebreak.verify.case import cases_of

ROUNDS: dict[str, Any] = {
    "num_envs": 16, "num_steps": 1, "num_rounds": 50, "learning_starts": 1600, "batch_size": 64,
    "replay_size": 16_000, "gamma": 0.9, "total_steps": 16_000,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "ppo": PPO(
        num_envs=16, num_steps=16, num_minibatches=2, total_steps=15_360, learning_rate=5e-3,
        gamma=0.9, gae_lambda=0.0, hidden_sizes=(32,),
    ),
    "dqn": DQN(
        **ROUNDS, num_updates=1, learning_rate=3e-3, target_every=320, hidden_sizes=(32,),
        epsilon_end=0.2,
    ),
    "pqn": PQN(
        num_envs=16, num_steps=16, num_minibatches=2, total_steps=15_360, learning_rate=5e-3,
        gamma=0.9, q_lambda=0.0, reward_scale=1.0, exploration_fraction=0.5, hidden_sizes=(32,),
    ),
    "td3": TD3(
        **ROUNDS, num_updates=2, actor_lr=2e-3, critic_lr=4e-3, tau=0.05, hidden_sizes=(32, 32),
        exploration_noise=0.3,
    ),
    "sac": SAC(
        **ROUNDS, num_updates=1, actor_lr=3e-3, critic_lr=4e-3, alpha_lr=1e-2, init_alpha=0.1,
        tau=0.05, hidden_sizes=(32, 32),
    ),
    "mpo": MPO(
        **ROUNDS, num_updates=2, n_step=1, num_samples=10, learning_rate=3e-3, target_period=25,
        init_log_alpha_mean=1.0, init_log_alpha_std=10.0, init_log_temperature=1.0,
        epsilon_mean=0.1, epsilon_std=1e-3, hidden_sizes=(32, 32), critic_sizes=(32, 32),
    ),
    "fasttd3": FastTD3(
        **{**ROUNDS, "total_steps": 32_000}, num_updates=2,
        actor_lr=2e-3, critic_lr=4e-3, tau=0.05, weight_decay=0.0,
        num_atoms=31, v_min=-3.0, v_max=3.0, noise_min=0.1, target_noise=0.1, actor_sizes=(32, 32),
        critic_sizes=(32, 32), normalize_obs=False,
    ),
    "fastsac": FastSAC(
        **ROUNDS, num_updates=2, policy_delay=2, actor_lr=2e-3, critic_lr=4e-3, tau=0.05,
        init_alpha=0.01, target_entropy_scale=1.0, num_atoms=31, v_min=-3.0, v_max=3.0,
        actor_sizes=(32, 32), critic_sizes=(32, 32), normalize_obs=False,
    ),
}  # fmt: skip
STILL = {
    "dqn": {"target_every": 3_200_000},
    "td3": {"tau": 0.0},
    "sac": {"tau": 0.0},
    "mpo": {"target_period": 10**6},
    "fasttd3": {"tau": 0.0},
    "fastsac": {"tau": 0.0},
}
"""Settings under which targets never move."""
LEARNT = 0.3
"""Largest mean distance of greedy actions from the right ones; 0.6 without looking, 0 or 1 for
discrete ones."""


def distance(algorithm: str, framework: str, fault: str = "") -> float:
    """Train, and return how far greedy actions are from the right ones, for both values of c."""
    config = CONFIGS[algorithm]
    if fault == "targets still":
        config = replace(config, **STILL[algorithm])
    discrete = "discrete" in cases_of(algorithm).ACTIONS
    env = Echo(config.num_envs, discrete=discrete, fault=fault)
    runtime = registry.make_runtime(framework, registry.framework(framework).default_mode)
    raw_agent = registry.make_raw_agent(algorithm, env.spec, config, runtime)
    loop_class = base._loop_class(algorithm, "fused")
    loop = loop_class(algorithm, runtime, raw_agent, env, config, 1, config.num_iterations)
    while loop.is_warmup:
        loop.run()
    loop.iterations_per_run -= loop.steps // config.iteration_steps
    loop.run()

    obs = np.array([[1, 0, 0, c, 0] for c in (-1, 1)] * (config.num_envs // 2), np.float32)
    greedy = registry.data_module(algorithm).act_noise(env.spec, config.num_envs).shape
    noise = np.zeros(greedy, np.float32)
    action = runtime.to_numpy(loop.agent.act(loop.state, obs, noise)).action
    if env.spec.discrete:
        return float(np.mean(action != (obs[:, 3] > 0)))
    return float(np.mean(np.abs(action[:, 0] - env.right * obs[:, 3])))


ON_JAX = [name for name, row in registry.FRAMEWORKS.items() if row.runtime == "jax"]


@pytest.mark.learning(share=0.05)
@pytest.mark.parametrize("framework", ON_JAX)
@pytest.mark.parametrize("algorithm", CONFIGS)
def test_a_reward_goes_back_one_step(algorithm, framework):
    if registry.missing_packages(registry.framework(framework).packages):
        pytest.skip(f"{framework} is not installed")
    assert distance(algorithm, framework) < LEARNT


LEARNT_ALL_THE_SAME = {
    ("ppo", "ends ignored"), ("dqn", "reward of the step before"),
    ("sac", "reward of the step before"), ("mpo", "reward of the step before"),
    ("pqn", "reward of the step before"),
    ("sac", "targets still"), ("fasttd3", "targets still"),
}  # fmt: skip
"""Faults that this task does not show; the proofs and tests/loops/test_transitions.py see them."""
FAULTY = [(algorithm, fault) for algorithm in CONFIGS for fault in FAULTS]
FAULTY += [(algorithm, "targets still") for algorithm in STILL]
FAULTY = [pair for pair in FAULTY if pair not in LEARNT_ALL_THE_SAME]


@pytest.mark.slow(share=0.025)
@pytest.mark.parametrize(("algorithm", "fault"), FAULTY)
def test_a_fault_in_the_loop_is_seen(algorithm, fault):
    assert distance(algorithm, "linen", fault) > LEARNT
