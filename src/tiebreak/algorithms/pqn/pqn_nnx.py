"""PQN in Flax NNX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.nnx
import jax
import jax.numpy as jnp

from tiebreak.algorithms.pqn import data
from tiebreak.algorithms.pqn.config import Config
from tiebreak.algorithms.pqn.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    Rollout,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.pqn.losses_jax import epsilon, lambda_returns, learning_rate, pqn_loss
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import nnx, ops, trees
from tiebreak.frameworks.jax.nnx import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make network and optimizer for a spec, without weights."""
    settings = (spec, config.layers, build.dtype)
    q = partial(nnx.ActionValues, *settings)  # D7
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks={"q": q},
        optimizers=make_optimizers(config, ops.make_optimizer, learning_rate),  # D5
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, 2]; zero noise is greedy."""
    obs = nnx.features(agent, state, obs.reshape(len(obs), -1))
    q = _action_values(agent, state.params["q"])(obs)
    count = nnx.update_count(agent, state, "q")
    explore = noise[:, 0] > 1.0 - epsilon(agent.config, count)  # D1
    random_action = (noise[:, 1] * agent.spec.action_size).astype(jnp.int32)
    greedy_action = jnp.argmax(q, axis=-1).astype(jnp.int32)
    return Act(action=jnp.where(explore, random_action, greedy_action))


def prepare(agent: AgentDef, state: AgentState, batch: Rollout) -> tuple[AgentState, Minibatch]:
    """Return the λ-returns of a rollout as B rows; statistics take it in."""
    batch = trees.cast(batch, agent.dtype)
    num_rows = batch.reward.size
    next_obs = nnx.features(agent, state, batch.next_obs.reshape(num_rows, -1))
    next_q = _action_values(agent, state.params["q"])(next_obs)
    next_q = next_q.reshape(*batch.reward.shape, -1)
    target = lambda_returns(batch, next_q, agent.config)

    obs = batch.obs.reshape(num_rows, -1)
    rows = Minibatch(
        obs=nnx.features(agent, state, obs),
        action=batch.action.reshape(num_rows),
        target=target.reshape(num_rows),
    )
    return nnx.update_statistics(agent, state, obs), rows  # D10


def gradients(
    agent: AgentDef, state: AgentState, minibatch: Minibatch
) -> tuple[LossTerms, dict[str, Any]]:
    """Return terms and raw gradient of the loss."""

    def loss(params):
        terms = pqn_loss(_action_values(agent, params), minibatch)
        return terms.loss, terms

    grads, terms = flax.nnx.grad(loss, has_aux=True)(state.params["q"])
    return terms, {"q": grads}


def update(agent: AgentDef, state: AgentState, minibatch: Minibatch) -> tuple[AgentState, Metrics]:
    """Make one gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state, norm = nnx.apply_gradients(agent, state, "q", grads)
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
    return nnx.make_agent(agent, initial_weights, act, step)  # D8


def _action_values(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the network: features [B, …] -> values of all actions [B, num_actions]."""
    return nnx.network(agent, params, "q")
