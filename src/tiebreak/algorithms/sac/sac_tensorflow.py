"""SAC in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from tiebreak.algorithms.sac import data
from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import (
    CRITICS,
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
from tiebreak.frameworks.tensorflow import agent as plumbing
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.agent import (
    AgentDef,
    AgentState,
    apply_gradients,
    cast,
    cut,
    differentiate,
    features,
    network,
    prepare,
    take,
    update_statistics,
    update_targets,
)
from tiebreak.frameworks.tensorflow.networks import ActionValues, Critic, Policy, SquashedPolicy


def soft_terms(policy: Callable, critics: tuple, obs: Array, noise: Array) -> tuple[Array, Array]:
    """Return Q and log π of the policy's action, both [B]; of discrete ones, the expectations.

    Q is the smaller of both critics' values.
    """
    distribution = policy(obs)
    if isinstance(distribution, ops.Categorical):  # D12
        q1, q2 = (q(obs) for q in critics)
        probs = tf.exp(distribution.log_p)
        q = tf.reduce_sum(probs * tf.minimum(q1, q2), axis=-1)
        return q, tf.reduce_sum(probs * distribution.log_p, axis=-1)
    action, log_prob = distribution.sample_log_prob(noise)  # D1
    q1, q2 = (q(obs, action) for q in critics)
    return tf.minimum(q1, q2), log_prob


def taken_value(critic: Callable, batch: Batch) -> Array:
    """Return the values [B] of a batch's actions by one critic."""
    if not batch.action.dtype.is_integer:
        return critic(batch.obs, batch.action)
    return tf.gather(critic(batch.obs), batch.action, axis=1, batch_dims=1)  # D12


def critic_target(
    policy: Callable, targets: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> Array:
    """Return the soft value [B] that both critics are moved towards, by target critics."""
    q, log_prob = soft_terms(policy, targets, batch.next_obs, noise.next_action)
    soft_value = q - tf.exp(log_alpha) * log_prob  # D4 D6
    return tf.stop_gradient(batch.reward + batch.discount * soft_value)


def critic_loss(critics: tuple, batch: Batch, target: Array) -> CriticTerms:
    """Sum both critics' mean squared temporal-difference errors; target [B]."""
    q1, q2 = (taken_value(critic, batch) for critic in critics)
    loss = tf.reduce_mean(tf.square(q1 - target)) + tf.reduce_mean(tf.square(q2 - target))  # D4
    return CriticTerms(
        loss=loss,
        q1=tf.reduce_mean(q1),
        q2=tf.reduce_mean(q2),
        target=tf.reduce_mean(target),
    )


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> ActorTerms:
    """Return the mean of α·log π − Q over the policy's own actions: minus the soft value."""
    q, log_prob = soft_terms(policy, critics, batch.obs, noise.action)  # D5
    loss = tf.reduce_mean(tf.exp(log_alpha) * log_prob - q)  # D6
    return ActorTerms(loss=loss, q=tf.reduce_mean(q), entropy=-tf.reduce_mean(log_prob))


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
    deficit = tf.stop_gradient(tf.reduce_mean(log_prob) + target_entropy)
    return AlphaTerms(loss=-log_alpha * deficit, alpha=tf.exp(log_alpha))  # D6


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    critic = ActionValues if spec.discrete else Critic  # D12
    if spec.discrete:
        actor = Policy("actor", spec, config.layers)
    else:
        actor = SquashedPolicy("actor", spec, config.layers, config.log_std_range)
    networks = {
        "critic1": critic("critic1", spec, config.layers),
        "critic2": critic("critic2", spec, config.layers),
        "actor": actor,
    }
    layouts = plumbing.layouts_of(networks, data.NETWORKS)
    layouts["alpha"] = {"log_alpha": ()}
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        network_dtype=build.dtype,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer),  # D8
        layouts=layouts,
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    distribution = _policy(agent, state.params["actor"])(obs)
    raw = distribution.sample(tf.cast(noise, agent.dtype))  # D1
    if agent.spec.discrete:
        return Act(action=raw, raw_action=raw)

    low, high = (tf.constant(bound, agent.dtype) for bound in agent.spec.bounds)
    return Act(action=ops.rescale_action(raw, low, high), raw_action=raw)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Array]]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    targets = _critics(agent, state.target["critic"])
    log_alpha = _log_alpha(agent, state.params["alpha"])
    target = critic_target(policy, targets, log_alpha, batch, noise)

    def loss(flat: Array) -> CriticTerms:
        return critic_loss(_critics(agent, flat), batch, target)

    return differentiate(loss, state, "critic")


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    critics = _critics(agent, state.params["critic"])
    log_alpha = _log_alpha(agent, state.params["alpha"])

    def loss(flat: Array) -> ActorTerms:
        return actor_loss(_policy(agent, flat), critics, log_alpha, batch, noise)

    return differentiate(loss, state, "actor")


def alpha_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, Array]]:
    """Return terms and raw gradient of the temperature's loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])

    def loss(flat: Array) -> AlphaTerms:
        return alpha_loss(policy, _log_alpha(agent, flat), batch, noise, agent.config)

    return differentiate(loss, state, "alpha")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update critics, actor, α and targets in this order; each sees the updates before it."""
    critic_terms, grads = critic_gradients(agent, state, batch, noise)  # D7
    state, critic_norm = apply_gradients(agent, state, "critic", grads)

    actor_terms, grads = actor_gradients(agent, state, batch, noise)
    state, actor_norm = apply_gradients(agent, state, "actor", grads)

    alpha_terms, grads = alpha_gradients(agent, state, batch, noise)
    state, _ = apply_gradients(agent, state, "alpha", grads)

    state = update_targets(agent, state, "critic", agent.config.tau)  # D9
    return state, Metrics(*critic_terms, *actor_terms, *alpha_terms, critic_norm, actor_norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    rows = prepare(agent, state, batch), cast(noise, agent.dtype)

    def body(u: Array) -> Array:
        _, metrics = update(agent, state, *take(rows, u))
        return tf.stack(metrics)

    indices = tf.range(agent.config.num_updates)
    metrics = ops.scan(body, indices, len(Metrics._fields), agent.dtype)
    state = update_statistics(agent, state, batch.obs)  # D11
    return state, Metrics(*tf.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D10


def _policy(agent: AgentDef, flat: Array) -> Callable:
    """Return the policy: features [B, …] -> distribution of actions [B, A] or [B]."""
    return network(agent, cut(agent, "actor", flat), "actor")


def _critics(agent: AgentDef, flat: Array) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> values [B].

    Of discrete actions: features -> values [B, K].
    """
    params = cut(agent, "critic", flat)
    return tuple(network(agent, params, name) for name in CRITICS)


def _log_alpha(agent: AgentDef, flat: Array) -> Array:
    """Return the logarithm of the temperature, a scalar."""
    return cut(agent, "alpha", flat)["log_alpha"]
