"""FastSAC in Equinox; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from tiebreak.algorithms.fastsac import data
from tiebreak.algorithms.fastsac.config import Config
from tiebreak.algorithms.fastsac.data import (
    CRITICS,
    TARGETS,
    Act,
    ActorTerms,
    AlphaTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    actor_spec,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.fastsac.losses_jax import (
    actor_loss,
    alpha_loss,
    critic_loss,
    target_distributions,
)
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.jax import equinox, ops, trees
from tiebreak.frameworks.jax.equinox import AgentDef, AgentState


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    dtype = build.network_dtype or build.dtype  # D11
    seen, layers = actor_spec(spec), config.actor_layers  # D9
    actor = equinox.SquashedPolicy(seen, layers, config.log_std_range, dtype)  # D3
    critic = equinox.Critic(spec, config.critic_layers, dtype, config.num_atoms)
    log_alpha = jnp.zeros((), build.dtype)
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks={"critic1": critic, "critic2": critic, "actor": actor, "log_alpha": log_alpha},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D8
        data=data,
        network_dtype=build.network_dtype,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = equinox.features(agent, state, obs.reshape(len(obs), -1))
    policy = _policy(agent, state.params["actor"])(obs)
    raw_action = policy.sample(jnp.asarray(noise, agent.dtype))  # D1
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
    target = target_distributions(policy, targets, log_alpha, batch, noise, agent.config)

    def loss(params):
        terms = critic_loss(_critics(agent, params), batch, target, agent.config)
        return terms.loss, terms

    grads, terms = eqx.filter_grad(loss, has_aux=True)(state.params["critic"])
    return terms, {"critic": grads}


def alpha_gradients(
    agent: AgentDef, state: AgentState, entropy: Array
) -> tuple[AlphaTerms, dict[str, Any]]:
    """Return terms and raw gradient of the temperature's loss, from the critics' entropy."""

    def loss(params):
        terms = alpha_loss(_log_alpha(params), entropy, agent.spec.action_size, agent.config)
        return terms.loss, terms

    grads, terms = eqx.filter_grad(loss, has_aux=True)(state.params["alpha"])
    return terms, {"alpha": grads}


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    critics = _critics(agent, state.params["critic"])
    log_alpha = _log_alpha(state.params["alpha"])

    def loss(params):
        policy = _policy(agent, params)
        terms = actor_loss(policy, critics, log_alpha, batch, noise, agent.config)
        return terms.loss, terms

    grads, terms = eqx.filter_grad(loss, has_aux=True)(state.params["actor"])
    return terms, {"actor": grads}


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update critics, α and targets `policy_delay` times, then the actor once.

    Batch and `noise.next_action` have leading axes [policy_delay, B], `noise.action` has [B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D7
        minibatch, next_action = trees.take((batch, noise.next_action), u)
        sample = Noise(next_action, noise.action)
        critic_terms, grads = critic_gradients(agent, state, minibatch, sample)
        state, critic_norm = equinox.apply_gradients(agent, state, "critic", grads)

        alpha_terms, grads = alpha_gradients(agent, state, critic_terms.entropy)  # D6
        state, _ = equinox.apply_gradients(agent, state, "alpha", grads)

        critic_metrics.append((*critic_terms, critic_norm, *alpha_terms))
        for name in TARGETS:
            state = equinox.update_targets(agent, state, name, agent.config.tau)  # D7

    # The actor climbs the updated critics, on the last of these batches.
    actor_terms, grads = actor_gradients(agent, state, minibatch, sample)  # D5
    state, actor_norm = equinox.apply_gradients(agent, state, "actor", grads)

    critic_means = trees.mean_columns(critic_metrics)
    return state, Metrics(*critic_means, *actor_terms, actor_norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""

    def body(state, group):
        return update(agent, state, *group)

    rows = equinox.prepare(agent, state, batch)
    noise = trees.cast(noise, agent.dtype)
    rows, next_action = trees.split_leading((rows, noise.next_action), agent.config.policy_delay)
    state, metrics = ops.scan(body, state, (rows, Noise(next_action, noise.action)))
    state = equinox.update_statistics(agent, state, batch.obs)  # D10
    return state, jax.tree.map(jnp.mean, metrics)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return equinox.make_agent(agent, initial_weights, act, step)  # D9


def _policy(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the policy: features [B, …], of which it sees a part -> distribution of actions."""
    actor = equinox.network(agent, params, "actor")
    return lambda obs: actor(obs[:, : agent.spec.visible_size])  # D10


def _critics(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> logits [B, K]."""
    return tuple(equinox.network(agent, params, name) for name in CRITICS)


def _log_alpha(params: Mapping[str, Any]) -> Array:
    """Return the logarithm of the temperature; a scalar."""
    return params["log_alpha"]
