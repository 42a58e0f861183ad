"""TD3 in plain JAX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.algorithms.td3 import data
from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import (
    CRITICS,
    TARGETS,
    Act,
    ActorTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.td3.losses_jax import actor_loss, critic_loss, td3_target
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import ops, plain, trees
from tiebreak.frameworks.jax.plain import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    actor = plain.DeterministicPolicy(spec, config.layers)
    critic = plain.Critic(spec, config.layers)
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks={"critic1": critic, "critic2": critic, "actor": actor},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D6
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = plain.features(agent, state, obs.reshape(len(obs), -1))
    greedy = _policy(agent, state.params["actor"])(obs)
    noise = agent.config.exploration_noise * jnp.asarray(noise, agent.dtype)
    raw_action = jnp.clip(greedy + noise, -1.0, 1.0)  # D1
    low, high = trees.action_bounds(agent.spec, agent.dtype)
    action = ops.rescale_action(raw_action, low, high)
    return Act(action=action, raw_action=raw_action)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Any]]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.target["actor"])
    targets = _critics(agent, state.target["critic"])
    target = td3_target(policy, targets, batch, noise.target, agent.config)

    def loss(params):
        terms = critic_loss(_critics(agent, params), batch, target)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["critic"])
    return terms, {"critic": grads}


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    del noise
    critic1, _ = _critics(agent, state.params["critic"])

    def loss(params):
        terms = actor_loss(_policy(agent, params), critic1, batch)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["actor"])
    return terms, {"actor": grads}


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update the critics `policy_delay` times, then the actor and all targets once.

    Batch and noise have leading axes [policy_delay, B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D5
        minibatch, sample = trees.take((batch, noise), u)
        critic_terms, grads = critic_gradients(agent, state, minibatch, sample)
        state, critic_norm = plain.apply_gradients(agent, state, "critic", grads)
        critic_metrics.append((*critic_terms, critic_norm))

    # The actor climbs the updated critic, on the last of these batches.
    actor_terms, grads = actor_gradients(agent, state, minibatch, sample)  # D4
    state, actor_norm = plain.apply_gradients(agent, state, "actor", grads)
    for name in TARGETS:  # D5
        state = plain.update_targets(agent, state, name, agent.config.tau, trees.step_towards)

    mean_loss, q1, q2, target, critic_norm = trees.mean_columns(critic_metrics)
    metrics = Metrics(
        critic_loss=mean_loss,
        q1=q1,
        q2=q2,
        target=target,
        critic_norm=critic_norm,
        actor_loss=actor_terms.loss,
        actor_norm=actor_norm,
    )
    return state, metrics


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""

    def body(state, group):
        return update(agent, state, *group)

    rows = plain.prepare(agent, state, batch)
    noise = trees.cast(noise, agent.dtype)
    groups = trees.split_leading((rows, noise), agent.config.policy_delay)
    state, metrics = ops.scan(body, state, groups)
    state = plain.update_statistics(agent, state, batch.obs)  # D7
    return state, jax.tree.map(jnp.mean, metrics)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plain.make_agent(agent, initial_weights, act, step)  # D8


def _policy(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the policy: features [B, …] -> actions [B, A]."""
    return plain.network(agent, params, "actor")


def _critics(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> values [B]."""
    return tuple(plain.network(agent, params, name) for name in CRITICS)
