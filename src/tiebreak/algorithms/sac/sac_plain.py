"""SAC in plain JAX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.algorithms.sac import data
from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import (
    CRITICS,
    TARGETS,
    Act,
    ActorTerms,
    AlphaTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.sac.losses_jax import actor_loss, alpha_loss, critic_loss, critic_target
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import ops, plain, trees
from tiebreak.frameworks.jax.plain import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    if spec.discrete:  # D12
        actor = plain.Policy(spec, config.layers)
        critic = plain.ActionValues(spec, config.layers)
    else:
        actor = plain.SquashedPolicy(spec, config.layers, config.log_std_range)
        critic = plain.Critic(spec, config.layers)
    log_alpha = jnp.zeros((), build.dtype)
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks={"critic1": critic, "critic2": critic, "actor": actor, "log_alpha": log_alpha},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D8
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = plain.features(agent, state, obs.reshape(len(obs), -1))
    policy = _policy(agent, state.params["actor"])(obs)
    raw_action = policy.sample(jnp.asarray(noise, agent.dtype))  # D1
    if agent.spec.discrete:
        return Act(action=raw_action, raw_action=raw_action)
    low, high = trees.action_bounds(agent.spec, agent.dtype)
    action = ops.rescale_action(raw_action, low, high)
    return Act(action=action, raw_action=raw_action)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Any]]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    targets = _critics(agent, state.target["critic"])
    log_alpha = _log_alpha(state.params["alpha"])
    target = critic_target(policy, targets, log_alpha, batch, noise)

    def loss(params):
        terms = critic_loss(_critics(agent, params), batch, target)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["critic"])
    return terms, {"critic": grads}


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    critics = _critics(agent, state.params["critic"])
    log_alpha = _log_alpha(state.params["alpha"])

    def loss(params):
        terms = actor_loss(_policy(agent, params), critics, log_alpha, batch, noise)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["actor"])
    return terms, {"actor": grads}


def alpha_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, Any]]:
    """Return terms and raw gradient of the temperature's loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])

    def loss(params):
        terms = alpha_loss(policy, _log_alpha(params), batch, noise, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["alpha"])
    return terms, {"alpha": grads}


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update critics, actor, α and targets in this order; each sees the results before it."""
    critic_terms, grads = critic_gradients(agent, state, batch, noise)  # D7
    state, critic_norm = plain.apply_gradients(agent, state, "critic", grads)

    actor_terms, grads = actor_gradients(agent, state, batch, noise)
    state, actor_norm = plain.apply_gradients(agent, state, "actor", grads)

    alpha_terms, grads = alpha_gradients(agent, state, batch, noise)
    state, _ = plain.apply_gradients(agent, state, "alpha", grads)

    for name in TARGETS:
        state = plain.update_targets(agent, state, name, agent.config.tau)  # D9
    metrics = Metrics(
        critic_loss=critic_terms.loss,
        q1=critic_terms.q1,
        q2=critic_terms.q2,
        target=critic_terms.target,
        actor_loss=actor_terms.loss,
        actor_q=actor_terms.q,
        entropy=actor_terms.entropy,
        alpha_loss=alpha_terms.loss,
        alpha=alpha_terms.alpha,
        critic_norm=critic_norm,
        actor_norm=actor_norm,
    )
    return state, metrics


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""

    def body(state, row):
        return update(agent, state, *row)

    rows = plain.prepare(agent, state, batch)
    noise = trees.cast(noise, agent.dtype)
    state, metrics = ops.scan(body, state, (rows, noise))
    state = plain.update_statistics(agent, state, batch.obs)  # D11
    return state, jax.tree.map(jnp.mean, metrics)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plain.make_agent(agent, initial_weights, act, step)  # D10


def _policy(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the policy: features [B, …] -> distribution of actions [B, A] or [B]."""
    return plain.network(agent, params, "actor")


def _critics(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> values [B].

    Of discrete actions: features -> values [B, K].
    """
    return tuple(plain.network(agent, params, name) for name in CRITICS)


def _log_alpha(params: Mapping[str, Any]) -> Array:
    """Return the logarithm of the temperature; a scalar."""
    return params["log_alpha"]
