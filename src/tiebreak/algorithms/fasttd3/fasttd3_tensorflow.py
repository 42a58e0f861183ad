"""FastTD3 in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tiebreak.algorithms.fasttd3 import data
from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.algorithms.fasttd3.data import (
    CRITICS,
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
from tiebreak.frameworks.tensorflow.networks import Critic, DeterministicPolicy


def target_distribution(
    policy: Callable, critics: tuple, batch: Batch, noise: Noise, config: Config
) -> Array:
    """Return the distribution that both critics are moved towards, by target critics.

    [B, K] probabilities: of the two projected distributions, the one with the smaller mean.
    """
    smoothing = config.target_noise * noise.target
    smoothing = tf.clip_by_value(smoothing, -config.noise_clip, config.noise_clip)
    action = tf.clip_by_value(policy(batch.next_obs) + smoothing, -1.0, 1.0)  # D2

    one, two = (tf.nn.softmax(critic(batch.next_obs, action)) for critic in critics)
    values = batch.reward[:, None] + batch.discount[:, None] * ops.atoms(*config.span, one)
    values = tf.clip_by_value(values, *config.span)

    # Projecting keeps the mean: the smaller is known before, and only that one is projected.
    smaller = tf.reduce_sum(one * values, axis=1) < tf.reduce_sum(two * values, axis=1)  # D4
    probs = tf.where(smaller[:, None], one, two)
    return tf.stop_gradient(ops.project_distribution(probs, values, *config.span))  # D3


def critic_loss(critics: tuple, batch: Batch, target: Array, config: Config) -> CriticTerms:
    """Sum both critics' cross-entropies; target [B, K]."""
    logits1, logits2 = (critic(batch.obs, batch.action) for critic in critics)
    loss = _cross_entropy(logits1, target) + _cross_entropy(logits2, target)  # D4

    atoms = ops.atoms(*config.span, target)
    return CriticTerms(
        loss=loss,
        q1=tf.reduce_mean(_expectation(tf.nn.softmax(logits1), atoms)),
        q2=tf.reduce_mean(_expectation(tf.nn.softmax(logits2), atoms)),
        target=tf.reduce_mean(_expectation(target, atoms)),
    )


def actor_loss(policy: Callable, critics: tuple, batch: Batch, config: Config) -> ActorTerms:
    """Return the mean of the smaller expected return of the policy's actions, negated."""
    action = policy(batch.obs)
    one, two = (tf.nn.softmax(critic(batch.obs, action)) for critic in critics)
    atoms = ops.atoms(*config.span, one)
    q = tf.minimum(_expectation(one, atoms), _expectation(two, atoms))
    return ActorTerms(loss=-tf.reduce_mean(q))  # D5


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    networks = {
        "critic1": Critic("critic1", spec, config.critic_layers, config.num_atoms),  # D3
        "critic2": Critic("critic2", spec, config.critic_layers, config.num_atoms),
        "actor": DeterministicPolicy("actor", actor_spec(spec), config.actor_layers),
    }
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        network_dtype=build.network_dtype or build.dtype,  # D10
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer),  # D7
        layouts=plumbing.layouts_of(networks, data.NETWORKS),
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A] in units of actions; zero is greedy."""
    obs = features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    greedy = _policy(agent, state.params["actor"])(obs)
    raw = tf.clip_by_value(greedy + tf.cast(noise, agent.dtype), -1.0, 1.0)  # D1

    low, high = (tf.constant(bound, agent.dtype) for bound in agent.spec.bounds)
    return Act(action=ops.rescale_action(raw, low, high), raw_action=raw)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Array]]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    targets = _critics(agent, state.target["critic"])
    target = target_distribution(policy, targets, batch, noise, agent.config)

    def loss(flat: Array) -> CriticTerms:
        return critic_loss(_critics(agent, flat), batch, target, agent.config)

    return differentiate(loss, state, "critic")


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    del noise
    critics = _critics(agent, state.params["critic"])

    def loss(flat: Array) -> ActorTerms:
        return actor_loss(_policy(agent, flat), critics, batch, agent.config)

    return differentiate(loss, state, "actor")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update the critics and their targets `policy_delay` times, then the actor once.

    Batch and noise have leading axes [policy_delay, B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D6
        row, sample = tf.nest.map_structure(lambda x, u=u: x[u], (batch, noise))
        critic_terms, grads = critic_gradients(agent, state, row, sample)
        state, critic_norm = apply_gradients(agent, state, "critic", grads)
        state = update_targets(agent, state, "critic", agent.config.tau)  # D6
        critic_metrics.append((*critic_terms, critic_norm))

    # The actor climbs the updated critics, on the last of these batches.
    actor_terms, grads = actor_gradients(agent, state, row, sample)  # D5
    state, actor_norm = apply_gradients(agent, state, "actor", grads)

    critic_means = mean_columns(critic_metrics)
    return state, Metrics(*critic_means, *actor_terms, actor_norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    delay = agent.config.policy_delay
    rows = prepare(agent, state, batch), cast(noise, agent.dtype)
    groups = tf.nest.map_structure(lambda x: tf.reshape(x, (-1, delay, *x.shape[1:])), rows)

    def body(g: Array) -> Array:
        _, metrics = update(agent, state, *take(groups, g))
        return tf.stack(metrics)

    indices = tf.range(agent.config.num_updates // delay)
    metrics = ops.scan(body, indices, len(Metrics._fields), agent.dtype)
    state = update_statistics(agent, state, batch.obs)  # D9
    return state, Metrics(*tf.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D8


def _policy(agent: AgentDef, flat: Array) -> Callable:
    """Return the policy: features [B, …] -> actions [B, A], from what the actor may see."""
    actor = network(agent, cut(agent, "actor", flat), "actor")
    return lambda obs: actor(obs[:, : agent.spec.visible_size])  # D9


def _critics(agent: AgentDef, flat: Array) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> logits [B, K]."""
    params = cut(agent, "critic", flat)
    return tuple(network(agent, params, name) for name in CRITICS)


def _cross_entropy(logits: Array, target: Array) -> Array:
    return -tf.reduce_mean(tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=1))


def _expectation(probs: Array, atoms: Array) -> Array:
    return tf.reduce_sum(probs * atoms, axis=1)
