"""PPO in plain JAX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.algorithms.ppo import data
from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    Rollout,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.ppo.losses_jax import advantages, learning_rate, ppo_loss, scale_rewards
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import ops, plain, trees
from tiebreak.frameworks.jax.plain import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizer for a spec, without weights."""
    actor = plain.Policy(spec, config.layers)
    critic = plain.Value(spec, config.layers)
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks={"actor": actor, "critic": critic},
        optimizers=make_optimizers(config, ops.make_optimizer, learning_rate),  # D7 D8
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, action_size]; zero noise is greedy."""
    policy, value = _networks(agent, state.params["actor_critic"])
    obs = plain.features(agent, state, obs.reshape(len(obs), -1))
    distribution = policy(obs)
    raw_action = action = distribution.sample(jnp.asarray(noise, agent.dtype))  # D1 D13
    if not agent.spec.discrete:  # D3
        low, high = trees.action_bounds(agent.spec, agent.dtype)
        action = ops.rescale_action(raw_action, low, high)
    return Act(
        action=action,
        raw_action=raw_action,
        log_prob=distribution.log_prob(raw_action),
        value=value(obs),
    )


def prepare(agent: AgentDef, state: AgentState, batch: Rollout) -> tuple[AgentState, Minibatch]:
    """Return advantages and targets of a rollout as B rows; statistics take it in."""
    batch = trees.cast(batch, agent.dtype)
    state, reward = _scale_rewards(agent, state, batch)

    _, value = _networks(agent, state.params["actor_critic"])
    num_rows = batch.reward.size
    next_obs = plain.features(agent, state, batch.next_obs.reshape(num_rows, -1))
    next_value = value(next_obs).reshape(reward.shape)  # D2
    advantage = advantages(batch, reward, next_value, agent.config)

    obs = batch.obs.reshape(num_rows, -1)
    rows = Minibatch(
        obs=plain.features(agent, state, obs),
        action=batch.action.reshape(num_rows, *batch.action.shape[2:]),
        log_prob=batch.log_prob.reshape(num_rows),
        value=batch.value.reshape(num_rows),
        advantage=advantage.reshape(num_rows),
        target=(advantage + batch.value).reshape(num_rows),
    )
    return plain.update_statistics(agent, state, obs), rows  # D10


def gradients(
    agent: AgentDef, state: AgentState, minibatch: Minibatch
) -> tuple[LossTerms, dict[str, Any]]:
    """Return terms and raw gradient of the loss."""

    def loss(params):
        policy, value = _networks(agent, params)
        terms = ppo_loss(policy, value, minibatch, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["actor_critic"])
    return terms, {"actor_critic": grads}


def update(agent: AgentDef, state: AgentState, minibatch: Minibatch) -> tuple[AgentState, Metrics]:
    """Make one gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state, norm = plain.apply_gradients(agent, state, "actor_critic", grads)
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Rollout, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Prepare a rollout, then run an update on each minibatch of every epoch."""
    state, rows = prepare(agent, state, batch)
    minibatch_size = agent.config.batch_size // agent.config.num_minibatches

    def body(state, index):
        return update(agent, state, trees.take(rows, index))

    indices = jnp.reshape(noise.permutation, (-1, minibatch_size))
    state, metrics = ops.scan(body, state, indices)
    return state, jax.tree.map(jnp.mean, metrics)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plain.make_agent(agent, initial_weights, act, step)  # D12


def _networks(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, Callable]:
    """Return the policy: features -> distribution of actions, and the value: features -> [B]."""
    policy = plain.network(agent, params, "actor")
    value = plain.network(agent, params, "critic")
    return policy, value


def _scale_rewards(agent: AgentDef, state: AgentState, batch: Rollout) -> tuple[AgentState, Array]:
    """Return the rewards [T, N], scaled if configured; statistics of returns take them in."""
    if not agent.config.normalize_reward:
        return state, batch.reward
    statistics = state.statistics
    reward, running_return, return_moments = scale_rewards(
        batch, statistics["running_return"], statistics["return_moments"], agent.config
    )
    changes = {"running_return": running_return, "return_moments": return_moments}
    return state._replace(statistics={**statistics, **changes}), reward
