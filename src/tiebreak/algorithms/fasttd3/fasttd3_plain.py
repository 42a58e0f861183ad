"""FastTD3 in plain JAX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.algorithms.fasttd3 import data
from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.algorithms.fasttd3.data import (
    CRITICS,
    TARGETS,
    Act,
    ActorTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    actor_spec,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.fasttd3.losses_jax import actor_loss, critic_loss, target_distribution
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import ops, plain, trees
from tiebreak.frameworks.jax.plain import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    actor = plain.DeterministicPolicy(actor_spec(spec), config.actor_layers)
    critic = plain.Critic(spec, config.critic_layers, config.num_atoms)  # D3
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks={"critic1": critic, "critic2": critic, "actor": actor},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D7
        data=data,
        network_dtype=build.network_dtype,  # D10
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A] in their units; zero noise is greedy."""
    obs = plain.features(agent, state, obs.reshape(len(obs), -1))
    greedy = _policy(agent, state.params["actor"])(obs)
    raw_action = jnp.clip(greedy + jnp.asarray(noise, agent.dtype), -1.0, 1.0)  # D1
    low, high = trees.action_bounds(agent.spec, agent.dtype)
    action = ops.rescale_action(raw_action, low, high)
    return Act(action=action, raw_action=raw_action)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Any]]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    targets = _critics(agent, state.target["critic"])
    target = target_distribution(policy, targets, batch, noise, agent.config)

    def loss(params):
        terms = critic_loss(_critics(agent, params), batch, target, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["critic"])
    return terms, {"critic": grads}


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    del noise
    critics = _critics(agent, state.params["critic"])

    def loss(params):
        terms = actor_loss(_policy(agent, params), critics, batch, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["actor"])
    return terms, {"actor": grads}


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update the critics and their targets `policy_delay` times, then the actor once.

    Batch and noise have leading axes [policy_delay, B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D6
        minibatch, sample = trees.take((batch, noise), u)
        critic_terms, grads = critic_gradients(agent, state, minibatch, sample)
        state, critic_norm = plain.apply_gradients(agent, state, "critic", grads)
        critic_metrics.append((*critic_terms, critic_norm))
        for name in TARGETS:
            state = plain.update_targets(agent, state, name, agent.config.tau)  # D6

    # The actor climbs the updated critics, on the last of these batches.
    actor_terms, grads = actor_gradients(agent, state, minibatch, sample)  # D5
    state, actor_norm = plain.apply_gradients(agent, state, "actor", grads)
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
    state = plain.update_statistics(agent, state, batch.obs)  # D9
    return state, jax.tree.map(jnp.mean, metrics)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plain.make_agent(agent, initial_weights, act, step)  # D8


def _policy(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the policy: features [B, …], of which it sees a part -> actions [B, A]."""
    actor = plain.network(agent, params, "actor")
    return lambda obs: actor(obs[:, : agent.spec.visible_size])  # D9


def _critics(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> logits [B, K]."""
    return tuple(plain.network(agent, params, name) for name in CRITICS)
