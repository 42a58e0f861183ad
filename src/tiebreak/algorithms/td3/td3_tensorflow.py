"""TD3 in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tiebreak.algorithms.td3 import data
from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import (
    CRITICS,
    Act,
    ActorTerms,
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
    mean_columns,
    network,
    prepare,
    take,
    update_statistics,
    update_targets,
)
from tiebreak.frameworks.tensorflow.networks import Critic, DeterministicPolicy


def td3_target(
    policy: Callable, critics: tuple[Callable, Callable], batch: Batch, noise: Array, config: Config
) -> Array:
    """Return the value that both critics are moved towards, by target networks; noise [B, A].

    [B]: reward plus the discounted smaller value of the target policy's smoothed action.
    """
    smoothing = config.target_noise * noise
    smoothing = tf.clip_by_value(smoothing, -config.noise_clip, config.noise_clip)
    action = tf.clip_by_value(policy(batch.next_obs) + smoothing, -1.0, 1.0)  # D2

    q1, q2 = (critic(batch.next_obs, action) for critic in critics)
    return tf.stop_gradient(batch.reward + batch.discount * tf.minimum(q1, q2))


def critic_loss(critics: tuple[Callable, Callable], batch: Batch, target: Array) -> CriticTerms:
    """Sum both critics' mean squared errors; target [B]."""
    q1, q2 = (critic(batch.obs, batch.action) for critic in critics)
    loss = tf.reduce_mean(tf.square(q1 - target)) + tf.reduce_mean(tf.square(q2 - target))  # D3
    return CriticTerms(
        loss=loss,
        q1=tf.reduce_mean(q1),
        q2=tf.reduce_mean(q2),
        target=tf.reduce_mean(target),
    )


def actor_loss(policy: Callable, critic: Callable, batch: Batch) -> ActorTerms:
    """Return the mean value of the policy's actions to the first critic, negated."""
    action = policy(batch.obs)
    return ActorTerms(loss=-tf.reduce_mean(critic(batch.obs, action)))  # D4


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    networks = {
        "critic1": Critic("critic1", spec, config.layers),
        "critic2": Critic("critic2", spec, config.layers),
        "actor": DeterministicPolicy("actor", spec, config.layers),
    }
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        network_dtype=build.dtype,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer),  # D6
        layouts=plumbing.layouts_of(networks, data.NETWORKS),
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    greedy = _policy(agent, state.params["actor"])(obs)
    exploration = agent.config.exploration_noise * tf.cast(noise, agent.dtype)
    raw = tf.clip_by_value(greedy + exploration, -1.0, 1.0)  # D1

    low, high = (tf.constant(bound, agent.dtype) for bound in agent.spec.bounds)
    return Act(action=ops.rescale_action(raw, low, high), raw_action=raw)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Array]]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.target["actor"])
    targets = _critics(agent, state.target["critic"])
    target = td3_target(policy, targets, batch, noise.target, agent.config)

    def loss(flat: Array) -> CriticTerms:
        return critic_loss(_critics(agent, flat), batch, target)

    return differentiate(loss, state, "critic")


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    del noise
    critic, _ = _critics(agent, state.params["critic"])

    def loss(flat: Array) -> ActorTerms:
        return actor_loss(_policy(agent, flat), critic, batch)

    return differentiate(loss, state, "actor")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update the critics `policy_delay` times, then the actor and all targets once.

    Batch and noise have leading axes [policy_delay, B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D5
        row, sample = tf.nest.map_structure(lambda x, u=u: x[u], (batch, noise))
        critic_terms, grads = critic_gradients(agent, state, row, sample)
        state, critic_norm = apply_gradients(agent, state, "critic", grads)
        critic_metrics.append((*critic_terms, critic_norm))

    # The actor climbs the updated critic, on the last of these batches.
    actor_terms, grads = actor_gradients(agent, state, row, sample)  # D4
    state, actor_norm = apply_gradients(agent, state, "actor", grads)
    for name in data.TARGETS:
        state = update_targets(agent, state, name, agent.config.tau)  # D5

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
    state = update_statistics(agent, state, batch.obs)  # D7
    return state, Metrics(*tf.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D8


def _policy(agent: AgentDef, flat: Array) -> Callable:
    """Return the policy: features [B, …] -> actions [B, A]."""
    return network(agent, cut(agent, "actor", flat), "actor")


def _critics(agent: AgentDef, flat: Array) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> values [B]."""
    params = cut(agent, "critic", flat)
    return tuple(network(agent, params, name) for name in CRITICS)
