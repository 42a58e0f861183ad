"""PPO in Equinox; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
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
    RecurrentAct,
    RecurrentRollout,
    Rollout,
    Sequences,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.ppo.losses_jax import (
    advantages,
    by_environment,
    episode_begins,
    learning_rate,
    ppo_loss,
    remember,
    scale_rewards,
)
from tiebreak.core.memory import Memory
from tiebreak.core.networks import heads
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import equinox, ops, trees
from tiebreak.frameworks.jax.equinox import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizer for a spec, without weights."""
    settings = (*heads(spec, config.layers), build.dtype)
    actor = equinox.Policy(*settings)
    critic = equinox.Value(*settings)
    networks: dict[str, Any] = {"actor": actor, "critic": critic}
    if config.recurrent:
        networks["memory"] = equinox.GRU(spec, config.layers, build.dtype)  # D14
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer, learning_rate),  # D7 D8
        data=data,
    )


def act(
    agent: AgentDef, state: AgentState, obs: Array, noise: Array, memory: Memory | None = None
) -> Act | RecurrentAct:
    """Choose actions for obs [N, *obs] and noise [N, action_size]; zero noise is greedy."""
    policy, value = _networks(agent, state.params["actor_critic"])
    obs = equinox.features(agent, state, obs.reshape(len(obs), -1))
    if memory is not None:
        hidden, begins = trees.cast(memory, agent.dtype)
        obs = _gru(agent, state.params["actor_critic"])(obs[None], hidden, begins[None])[0]
    distribution = policy(obs)
    raw_action = action = distribution.sample(jnp.asarray(noise, agent.dtype))  # D1 D13
    if not agent.spec.discrete:  # D3
        low, high = trees.action_bounds(agent.spec, agent.dtype)
        action = ops.rescale_action(raw_action, low, high)
    acted = Act(
        action=action,
        raw_action=raw_action,
        log_prob=distribution.log_prob(raw_action),
        value=value(obs),
    )
    return acted if memory is None else RecurrentAct(*acted, hidden=obs)


def prepare(
    agent: AgentDef, state: AgentState, batch: Rollout | RecurrentRollout
) -> tuple[AgentState, Minibatch | Sequences]:
    """Return advantages and targets of a rollout as rows or, with a memory, as sequences."""
    batch = trees.cast(batch, agent.dtype)
    state, reward = _scale_rewards(agent, state, batch)

    _, value = _networks(agent, state.params["actor_critic"])
    num_rows = batch.reward.size
    next_obs = equinox.features(agent, state, batch.next_obs.reshape(num_rows, -1))
    if isinstance(batch, RecurrentRollout):
        next_obs = _next_states(agent, state, batch, next_obs)
    next_value = value(next_obs).reshape(reward.shape)  # D2
    advantage = advantages(batch, reward, next_value, agent.config)

    obs = batch.obs.reshape(num_rows, -1)
    rows = Minibatch(
        obs=equinox.features(agent, state, obs),
        action=batch.action.reshape(num_rows, *batch.action.shape[2:]),
        log_prob=batch.log_prob.reshape(num_rows),
        value=batch.value.reshape(num_rows),
        advantage=advantage.reshape(num_rows),
        target=(advantage + batch.value).reshape(num_rows),
    )
    if isinstance(batch, RecurrentRollout):
        rows = by_environment(rows, batch)
    return equinox.update_statistics(agent, state, obs), rows  # D10


def gradients(
    agent: AgentDef, state: AgentState, minibatch: Minibatch | Sequences
) -> tuple[LossTerms, dict[str, Any]]:
    """Return terms and raw gradient of the loss."""

    def loss(params):
        policy, value = _networks(agent, params)
        rows = minibatch
        if isinstance(minibatch, Sequences):
            rows = remember(_gru(agent, params), minibatch)
        terms = ppo_loss(policy, value, rows, agent.config)
        return terms.loss, terms

    grads, terms = eqx.filter_grad(loss, has_aux=True)(state.params["actor_critic"])
    return terms, {"actor_critic": grads}


def update(
    agent: AgentDef, state: AgentState, minibatch: Minibatch | Sequences
) -> tuple[AgentState, Metrics]:
    """Make one gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state, norm = equinox.apply_gradients(agent, state, "actor_critic", grads)
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Rollout | RecurrentRollout, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Prepare a rollout, then run an update on each minibatch of every epoch."""
    state, rows = prepare(agent, state, batch)

    def body(state, index):
        return update(agent, state, trees.take(rows, index))

    indices = jnp.reshape(noise.permutation, (agent.config.updates_per_iteration, -1))
    state, metrics = ops.scan(body, state, indices)
    return state, jax.tree.map(jnp.mean, metrics)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return equinox.make_agent(agent, initial_weights, act, step)  # D12


def _networks(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, Callable]:
    """Return the policy: features -> distribution of actions, and the value: features -> [B]."""
    policy = equinox.network(agent, params, "actor")
    value = equinox.network(agent, params, "critic")
    return policy, value


def _gru(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the memory: features [T, B, …], hidden [B, H], begins [T, B] -> states [T, B, H]."""
    return equinox.network(agent, params, "memory")


def _next_states(
    agent: AgentDef, state: AgentState, batch: RecurrentRollout, next_obs: Array
) -> Array:
    """Return states [B, H] of the memory for features of next observations, before any reset."""
    gru = _gru(agent, state.params["actor_critic"])
    obs = equinox.features(agent, state, batch.obs.reshape(*batch.reward.shape, -1))
    states = gru(obs, batch.hidden, episode_begins(batch)).reshape(len(next_obs), -1)
    return gru(next_obs[None], states, jnp.zeros((1, len(states)), bool))[0]  # D16


def _scale_rewards(agent: AgentDef, state: AgentState, batch: Rollout) -> tuple[AgentState, Array]:
    """Return the rewards [T, N], scaled if configured; statistics of returns take them in."""
    if not agent.config.normalize_reward:
        return state, batch.reward
    statistics = state.statistics
    reward, running_return, return_moments = scale_rewards(
        batch, statistics["running_return"], statistics["return_moments"], agent.config
    )
    changes = {"running_return": running_return, "return_moments": return_moments}
    return replace(state, statistics={**statistics, **changes}), reward
