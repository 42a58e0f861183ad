"""MPO in plain JAX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.algorithms.mpo import data
from tiebreak.algorithms.mpo.config import Config
from tiebreak.algorithms.mpo.data import (
    TARGETS,
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
    initial_dual,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.mpo.dual_scipy import LEAST_LOG
from tiebreak.algorithms.mpo.losses_jax import draw_samples, mpo_loss
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import ops, plain, trees
from tiebreak.frameworks.jax.plain import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    actor = plain.ScaledPolicy(spec, config.actor_layers, config.init_std)
    critic = plain.Critic(spec, config.critic_layers)
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks={
            "actor": actor,
            **dict.fromkeys(config.critics, critic),
            "dual": initial_dual(spec, config),
        },
        optimizers=make_optimizers(config, ops.make_optimizer),  # D9
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = plain.features(agent, state, obs.reshape(len(obs), -1))
    policy = _policy(agent, state.params["actor"])(obs)
    raw_action = jnp.clip(policy.sample(jnp.asarray(noise, agent.dtype)), -1.0, 1.0)  # D1
    low, high = trees.action_bounds(agent.spec, agent.dtype)
    action = ops.rescale_action(raw_action, low, high)
    return Act(action=action, raw_action=raw_action)


def gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[LossTerms, dict[str, Any]]:
    """Return terms of the losses and all raw gradients; batch [B] of features."""
    policy = _policy(agent, state.target["actor"])
    targets = _critics(agent, state.target["critic"])
    samples = draw_samples(policy, targets, batch.next_obs, noise.action)

    def loss(params):
        policy = _policy(agent, params["actor"])
        critics = _critics(agent, params["critic"])
        dual = _dual(params["dual"])
        terms = mpo_loss(policy, critics, dual, samples, batch, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params)
    return terms, grads


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Make a step of each optimizer, and copy networks into their targets when that is due."""
    terms, grads = gradients(agent, state, batch, noise)
    state, actor_norm = plain.apply_gradients(agent, state, "actor", grads)
    state, critic_norm = plain.apply_gradients(agent, state, "critic", grads)
    state, _ = plain.apply_gradients(agent, state, "dual", grads)
    state = _clip_dual(state)
    for name in TARGETS:
        state = plain.copy_targets(agent, state, name, agent.config.target_period)  # D10
    return state, Metrics(*terms, actor_grad_norm=actor_norm, critic_grad_norm=critic_norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""

    def body(state, row):
        return update(agent, state, *row)

    rows = plain.prepare(agent, state, batch)
    noise = trees.cast(noise, agent.dtype)
    state, metrics = ops.scan(body, state, (rows, noise))
    state = plain.update_statistics(agent, state, batch.obs)  # D7
    return state, jax.tree.map(jnp.mean, metrics)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plain.make_agent(agent, initial_weights, act, step)  # D11


def _policy(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the policy: features [B, …] -> distribution of actions [B, A]."""
    return plain.network(agent, params, "actor")


def _critics(agent: AgentDef, params: Mapping[str, Any]) -> list[Callable]:
    """Return all critics: features [B, …], actions [B, A] -> values [B]."""
    return [plain.network(agent, params, name) for name in agent.config.critics]


def _dual(params: Mapping[str, Any]) -> Mapping[str, Array]:
    """Return the dual variables by name."""
    return params["dual"]


def _clip_dual(state: AgentState) -> AgentState:
    """Raise dual variables to the least value that they may have."""
    dual = jax.tree.map(lambda x: jnp.maximum(x, LEAST_LOG), state.params["dual"])  # D8
    return state._replace(params={**state.params, "dual": dual})
