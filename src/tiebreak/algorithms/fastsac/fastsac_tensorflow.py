"""FastSAC in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

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
    Target,
    actor_spec,
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
    mean_columns,
    network,
    prepare,
    take,
    update_statistics,
    update_targets,
)
from tiebreak.frameworks.tensorflow.networks import Critic, SquashedPolicy


def target_distributions(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> Target:
    """Return the distributions that the critics are moved towards, each by its own target critic.

    The soft reward of the policy's action is part of the return: it shifts the atoms.
    """
    action, log_prob = policy(batch.next_obs).sample_log_prob(noise.next_action)  # D1
    probs1, probs2 = (tf.nn.softmax(critic(batch.next_obs, action)) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    soft_value = atoms - (tf.exp(log_alpha) * log_prob)[:, None]
    values = batch.reward[:, None] + batch.discount[:, None] * soft_value
    values = tf.clip_by_value(values, *config.span)

    first = ops.project_distribution(probs1, values, *config.span)  # D4
    second = ops.project_distribution(probs2, values, *config.span)
    return Target(
        first=tf.stop_gradient(first),
        second=tf.stop_gradient(second),
        entropy=tf.stop_gradient(-tf.reduce_mean(log_prob)),
    )


def critic_loss(critics: tuple, batch: Batch, target: Target, config: Config) -> CriticTerms:
    """Sum both critics' cross-entropies, each to its own distribution."""
    logits1, logits2 = (critic(batch.obs, batch.action) for critic in critics)
    loss = _cross_entropy(logits1, target.first) + _cross_entropy(logits2, target.second)  # D4

    atoms = ops.atoms(*config.span, target.first)
    mean_target = 0.5 * (target.first + target.second)
    return CriticTerms(
        loss=loss,
        q1=tf.reduce_mean(_expectation(tf.nn.softmax(logits1), atoms)),
        q2=tf.reduce_mean(_expectation(tf.nn.softmax(logits2), atoms)),
        target=tf.reduce_mean(_expectation(mean_target, atoms)),
        entropy=target.entropy,
    )


def alpha_loss(log_alpha: Array, entropy: Array, action_size: int, config: Config) -> AlphaTerms:
    """Return the temperature's loss: α rises while the entropy is below its target."""
    target_entropy = -config.target_entropy_scale * action_size
    alpha = tf.exp(log_alpha)
    return AlphaTerms(loss=alpha * (entropy - target_entropy), alpha=alpha)  # D6


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> ActorTerms:
    """Return the mean of α·log π − Q over the policy's own actions; Q is both critics' mean."""
    action, log_prob = policy(batch.obs).sample_log_prob(noise.action)  # D1
    probs1, probs2 = (tf.nn.softmax(critic(batch.obs, action)) for critic in critics)
    q = _expectation(0.5 * (probs1 + probs2), ops.atoms(*config.span, probs1))  # D5
    loss = tf.reduce_mean(tf.exp(log_alpha) * log_prob - q)
    return ActorTerms(loss=loss, q=tf.reduce_mean(q))


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    seen, layers = actor_spec(spec), config.actor_layers  # D9
    networks = {
        "critic1": Critic("critic1", spec, config.critic_layers, config.num_atoms),
        "critic2": Critic("critic2", spec, config.critic_layers, config.num_atoms),
        "actor": SquashedPolicy("actor", seen, layers, config.log_std_range),  # D3
    }
    layouts = plumbing.layouts_of(networks, data.NETWORKS)
    layouts["alpha"] = {"log_alpha": ()}
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        network_dtype=build.network_dtype or build.dtype,  # D11
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

    low, high = (tf.constant(bound, agent.dtype) for bound in agent.spec.bounds)
    return Act(action=ops.rescale_action(raw, low, high), raw_action=raw)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Array]]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    targets = _critics(agent, state.target["critic"])
    log_alpha = _log_alpha(agent, state.params["alpha"])
    target = target_distributions(policy, targets, log_alpha, batch, noise, agent.config)

    def loss(flat: Array) -> CriticTerms:
        return critic_loss(_critics(agent, flat), batch, target, agent.config)

    return differentiate(loss, state, "critic")


def alpha_gradients(
    agent: AgentDef, state: AgentState, entropy: Array
) -> tuple[AlphaTerms, dict[str, Array]]:
    """Return terms and raw gradient of the temperature's loss, from the critics' entropy."""

    def loss(flat: Array) -> AlphaTerms:
        return alpha_loss(_log_alpha(agent, flat), entropy, agent.spec.action_size, agent.config)

    return differentiate(loss, state, "alpha")


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    critics = _critics(agent, state.params["critic"])
    log_alpha = _log_alpha(agent, state.params["alpha"])

    def loss(flat: Array) -> ActorTerms:
        policy = _policy(agent, flat)
        return actor_loss(policy, critics, log_alpha, batch, noise, agent.config)

    return differentiate(loss, state, "actor")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update critics, α and targets `policy_delay` times, then the actor once.

    Batch and `noise.next_action` have leading axes [policy_delay, B], `noise.action` has [B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D7
        minibatch = tf.nest.map_structure(lambda x, u=u: x[u], batch)
        sample = Noise(noise.next_action[u], noise.action)
        critic_terms, grads = critic_gradients(agent, state, minibatch, sample)
        state, critic_norm = apply_gradients(agent, state, "critic", grads)

        alpha_terms, grads = alpha_gradients(agent, state, critic_terms.entropy)  # D6
        state, _ = apply_gradients(agent, state, "alpha", grads)

        critic_metrics.append((*critic_terms, critic_norm, *alpha_terms))
        for name in TARGETS:
            state = update_targets(agent, state, name, agent.config.tau)  # D7

    # The actor climbs the updated critics, on the last of these batches.
    actor_terms, grads = actor_gradients(agent, state, minibatch, sample)  # D5
    state, actor_norm = apply_gradients(agent, state, "actor", grads)

    critic_means = mean_columns(critic_metrics)
    return state, Metrics(*critic_means, *actor_terms, actor_norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    delay = agent.config.policy_delay
    rows, noise = prepare(agent, state, batch), cast(noise, agent.dtype)
    rows, next_action = tf.nest.map_structure(
        lambda x: tf.reshape(x, (-1, delay, *x.shape[1:])), (rows, noise.next_action)
    )
    groups = rows, Noise(next_action, noise.action)

    def body(g: Array) -> Array:
        _, metrics = update(agent, state, *take(groups, g))
        return tf.stack(metrics)

    indices = tf.range(agent.config.num_updates // delay)
    metrics = ops.scan(body, indices, len(Metrics._fields), agent.dtype)
    state = update_statistics(agent, state, batch.obs)  # D10
    return state, Metrics(*tf.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D9


def _policy(agent: AgentDef, flat: Array) -> Callable:
    """Return the policy: features [B, …], of which it sees a part -> SquashedGaussian."""
    actor = network(agent, cut(agent, "actor", flat), "actor")
    return lambda obs: actor(obs[:, : agent.spec.visible_size])  # D10


def _critics(agent: AgentDef, flat: Array) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> logits [B, K]."""
    params = cut(agent, "critic", flat)
    return tuple(network(agent, params, name) for name in CRITICS)


def _log_alpha(agent: AgentDef, flat: Array) -> Array:
    """Return the logarithm of the temperature, a scalar; not as networks compute (see `cut`)."""
    return ops.unpack(flat, agent.layouts["alpha"])["log_alpha"]


def _cross_entropy(logits: Array, target: Array) -> Array:
    return -tf.reduce_mean(tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=1))


def _expectation(probs: Array, atoms: Array) -> Array:
    return tf.reduce_sum(probs * atoms, axis=1)
