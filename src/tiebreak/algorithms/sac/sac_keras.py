"""SAC in Keras; README.md is the spec."""

# Keras's functions have no annotations, and pyright infers that symbolic calls return None.
# pyright: reportOptionalOperand=false, reportOptionalSubscript=false
# pyright: reportOptionalIterable=false, reportOptionalMemberAccess=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

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
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.keras import agent as plumbing
from tiebreak.frameworks.keras import ops
from tiebreak.frameworks.keras.agent import (
    AgentDef,
    AgentState,
    apply_gradients,
    cast,
    differentiate,
    features,
    is_floating,
    of_row,
    prepare,
    update_statistics,
    update_targets,
)
from tiebreak.frameworks.keras.networks import ActionValues, Critic, Policy, SquashedPolicy


def soft_terms(policy: Callable, critics: tuple, obs: Array, noise: Array) -> tuple[Array, Array]:
    """Return Q and log π of the policy's action, both [B]; of discrete ones, the expectations.

    Q is the smaller of both critics' values.
    """
    distribution = policy(obs)
    if isinstance(distribution, ops.Categorical):  # D12
        q1, q2 = (q(obs) for q in critics)
        log_p = distribution.log_p
        probs = keras.ops.exp(log_p)
        q = keras.ops.sum(probs * keras.ops.minimum(q1, q2), axis=-1)
        return q, keras.ops.sum(probs * log_p, axis=-1)
    action, log_prob = distribution.sample_log_prob(noise)  # D1
    q1, q2 = (q(obs, action) for q in critics)
    return keras.ops.minimum(q1, q2), log_prob


def taken_value(critic: Callable, batch: Batch) -> Array:
    """Return the values [B] of a batch's actions by one critic."""
    if is_floating(batch.action):
        return critic(batch.obs, batch.action)
    return keras.ops.take_along_axis(critic(batch.obs), batch.action[:, None], axis=-1)[:, 0]  # D12


def critic_target(
    policy: Callable, targets: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> Array:
    """Return the soft value [B] that both critics are moved towards, by target critics."""
    q, log_prob = soft_terms(policy, targets, batch.next_obs, noise.next_action)
    soft_value = q - keras.ops.exp(log_alpha) * log_prob  # D4 D6
    return keras.ops.stop_gradient(batch.reward + batch.discount * soft_value)


def critic_loss(critics: tuple, batch: Batch, target: Array) -> CriticTerms:
    """Sum both critics' mean squared temporal-difference errors; target [B]."""
    q1, q2 = (taken_value(critic, batch) for critic in critics)
    error1 = keras.ops.mean(keras.ops.square(q1 - target))
    error2 = keras.ops.mean(keras.ops.square(q2 - target))
    return CriticTerms(
        loss=error1 + error2,  # D4
        q1=keras.ops.mean(q1),
        q2=keras.ops.mean(q2),
        target=keras.ops.mean(target),
    )


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> ActorTerms:
    """Return the mean of α·log π − Q over the policy's own actions: minus the soft value."""
    q, log_prob = soft_terms(policy, critics, batch.obs, noise.action)  # D5
    loss = keras.ops.mean(keras.ops.exp(log_alpha) * log_prob - q)  # D6
    return ActorTerms(loss=loss, q=keras.ops.mean(q), entropy=-keras.ops.mean(log_prob))


def alpha_loss(
    policy: Callable, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> AlphaTerms:
    """Return the temperature's loss: α rises while the entropy is below its target."""
    distribution = policy(batch.obs)
    if isinstance(distribution, ops.Categorical):
        log_prob, most = -distribution.entropy(), math.log(distribution.logits.shape[-1])
        target_entropy = config.target_entropy_scale * most  # D12
    else:
        _, log_prob = distribution.sample_log_prob(noise.action)
        target_entropy = -config.target_entropy_scale * noise.action.shape[-1]  # D6
    deficit = keras.ops.stop_gradient(keras.ops.mean(log_prob) + target_entropy)
    return AlphaTerms(loss=-log_alpha * deficit, alpha=keras.ops.exp(log_alpha))  # D6


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights; compile the update."""
    if spec.discrete:  # D12
        actor = Policy(spec, config.layers, build.dtype)
        critic = ActionValues(spec, config.layers, build.dtype)
    else:
        actor = SquashedPolicy(spec, config.layers, config.log_std_range, build.dtype)
        critic = Critic(spec, config.layers, build.dtype)
    log_alpha = np.zeros(())
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks={"critic1": critic, "critic2": critic, "actor": actor, "log_alpha": log_alpha},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D8
        compiled={"update": of_row(update)},
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = features(agent, state, keras.ops.reshape(obs, (obs.shape[0], -1)))
    policy = _policy(agent, state.params["actor"])(obs)
    raw_action = policy.sample(keras.ops.cast(noise, agent.dtype))  # D1
    if agent.spec.discrete:
        return Act(action=raw_action, raw_action=raw_action)
    low, high = plumbing.action_bounds(agent)
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

    def loss(params: Mapping[str, Any]) -> CriticTerms:
        return critic_loss(_critics(agent, params), batch, target)

    terms, grads = differentiate(loss, state.params["critic"])
    return terms, {"critic": grads}


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    critics = _critics(agent, state.params["critic"])
    log_alpha = _log_alpha(state.params["alpha"])

    def loss(params: Mapping[str, Any]) -> ActorTerms:
        return actor_loss(_policy(agent, params), critics, log_alpha, batch, noise)

    terms, grads = differentiate(loss, state.params["actor"])
    return terms, {"actor": grads}


def alpha_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, Any]]:
    """Return terms and raw gradient of the temperature's loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])

    def loss(params: Mapping[str, Any]) -> AlphaTerms:
        return alpha_loss(policy, _log_alpha(params), batch, noise, agent.config)

    terms, grads = differentiate(loss, state.params["alpha"])
    return terms, {"alpha": grads}


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update critics, actor, α and targets in this order; each sees the results before it."""
    critic_terms, grads = critic_gradients(agent, state, batch, noise)  # D7
    state, critic_norm = apply_gradients(agent, state, "critic", grads)

    actor_terms, grads = actor_gradients(agent, state, batch, noise)
    state, actor_norm = apply_gradients(agent, state, "actor", grads)

    alpha_terms, grads = alpha_gradients(agent, state, batch, noise)
    state, _ = apply_gradients(agent, state, "alpha", grads)

    for name in TARGETS:
        state = update_targets(agent, state, name, agent.config.tau)  # D9
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
    rows, noise = prepare(agent, state, batch), cast(noise, agent.dtype)

    def body(state: AgentState, i: Array) -> tuple[AgentState, Array]:
        return agent.compiled["update"](agent, state, rows, noise, i)

    updates = agent.config.num_updates
    state, metrics = ops.scan(body, state, updates, len(Metrics._fields), agent.dtype)
    state = update_statistics(agent, state, batch.obs)  # D11
    return state, Metrics(*keras.ops.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D10


def _policy(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the policy: features [B, …] -> distribution of actions [B, A] or [B]."""
    return plumbing.network(agent, params, "actor")


def _critics(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> values [B].

    Of discrete actions: features -> values [B, K].
    """
    return tuple(plumbing.network(agent, params, name) for name in CRITICS)


def _log_alpha(params: Mapping[str, Any]) -> Array:
    """Return the logarithm of the temperature; a scalar."""
    return params["log_alpha"]
