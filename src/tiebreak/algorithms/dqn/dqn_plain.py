"""DQN in plain JAX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.algorithms.dqn import data
from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import (
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.dqn.losses_jax import dqn_loss, dqn_target, epsilon, expected_values
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import ops, plain
from tiebreak.frameworks.jax.plain import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make network and optimizer for a spec, without weights."""
    q = plain.ActionValues(spec, config.layers, config.num_atoms)  # D8
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks={"q": q},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D5
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, 2]; zero noise is greedy."""
    obs = plain.features(agent, state, obs.reshape(len(obs), -1))
    outputs = _action_values(agent, state.params["q"])(obs)
    q = expected_values(outputs, agent.config)  # D8
    count = plain.update_count(agent, state, "q")
    explore = noise[:, 0] > 1.0 - epsilon(agent.config, count)  # D1
    random_action = (noise[:, 1] * agent.spec.action_size).astype(jnp.int32)
    greedy_action = jnp.argmax(q, axis=-1).astype(jnp.int32)
    action = jnp.where(explore, random_action, greedy_action)
    return Act(action=action, raw_action=action)


def gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[LossTerms, dict[str, Any]]:
    """Return terms and raw gradient of the loss; batch [B] of features."""
    del noise
    q = _action_values(agent, state.params["q"])
    target_q = _action_values(agent, state.target["q"])
    target = dqn_target(q, target_q, batch, agent.config)

    def loss(params):
        terms = dqn_loss(_action_values(agent, params), batch, target, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["q"])
    return terms, {"q": grads}


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Make one gradient step, and copy the network into its target when that is due."""
    terms, grads = gradients(agent, state, batch, noise)
    state, norm = plain.apply_gradients(agent, state, "q", grads)
    state = plain.copy_targets(agent, state, "q", agent.config.target_period)  # D4
    metrics = Metrics(
        loss=terms.loss,
        q=terms.q,
        target=terms.target,
        grad_norm=norm,
    )
    return state, metrics


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""

    def body(state, row):
        return update(agent, state, *row)

    rows = plain.prepare(agent, state, batch)
    state, metrics = ops.scan(body, state, (rows, noise))
    state = plain.update_statistics(agent, state, batch.obs)  # D7
    return state, jax.tree.map(jnp.mean, metrics)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plain.make_agent(agent, initial_weights, act, step)  # D6


def _action_values(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the network: features [B, …] -> values of all actions [B, A], or logits [B, A, K]."""
    return plain.network(agent, params, "q")
