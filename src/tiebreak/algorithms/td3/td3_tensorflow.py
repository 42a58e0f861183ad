"""TD3 in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import (
    Act,
    ActorTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    initial_weights,
)
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.networks import Critic, DeterministicPolicy


def td3_target(
    policy: Callable, critics: tuple[Callable, Callable], batch: Batch, noise: Array, config: Config
) -> Array:
    """What both critics are moved towards, by target networks; noise [B, A] -> [B]."""
    smoothing = config.target_noise * noise
    smoothing = tf.clip_by_value(smoothing, -config.noise_clip, config.noise_clip)
    action = tf.clip_by_value(policy(batch.next_obs) + smoothing, -1.0, 1.0)  # D2
    q1, q2 = (critic(batch.next_obs, action) for critic in critics)
    return tf.stop_gradient(batch.reward + batch.discount * tf.minimum(q1, q2))


def critic_loss(critics: tuple[Callable, Callable], batch: Batch, target: Array) -> CriticTerms:
    """The sum of both mean squared errors; target [B]."""
    q1, q2 = (critic(batch.obs, batch.action) for critic in critics)
    loss = tf.reduce_mean(tf.square(q1 - target)) + tf.reduce_mean(tf.square(q2 - target))  # D3
    return CriticTerms(loss, *(tf.reduce_mean(x) for x in (q1, q2, target)))


def actor_loss(policy: Callable, critic: Callable, batch: Batch) -> ActorTerms:
    """What the policy's actions are worth to the first critic, negated."""
    return ActorTerms(-tf.reduce_mean(critic(batch.obs, policy(batch.obs))))  # D4


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    policy: DeterministicPolicy
    critics: tuple[Critic, Critic]
    actor_optimizer: Callable[[Array, ops.Adam, Array], None]
    critic_optimizer: Callable[[Array, ops.Adam, Array], None]
    layouts: dict[str, ops.Layout]


class State(NamedTuple):
    """What training changes: variables."""

    actor: tf.Variable
    critics: tf.Variable
    target_actor: tf.Variable
    target_critics: tf.Variable
    actor_opt: ops.Adam
    critic_opt: ops.Adam
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks and optimizers for a spec; no weights."""
    sizes = spec, config.hidden_sizes, config.activation
    policy = DeterministicPolicy("actor", *sizes)
    critics = Critic("critic1", *sizes), Critic("critic2", *sizes)
    make = partial(ops.make_optimizer, eps=config.adam_eps, max_grad_norm=config.max_grad_norm)
    rates = config.actor_lr, config.critic_lr
    optimizers = (make(config.optimizer, lambda count, lr=lr: lr) for lr in rates)  # D6
    layouts = {"actor": policy.shapes(), "critics": critics[0].shapes() | critics[1].shapes()}
    return AgentDef(spec, config, build.dtype, policy, critics, *optimizers, layouts)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D8


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    noise = agent.config.exploration_noise * tf.cast(noise, agent.dtype)
    raw = tf.clip_by_value(_policy(agent, state.actor)(obs) + noise, -1.0, 1.0)  # D1
    low, high = (tf.constant(b, agent.dtype) for b in agent.spec.bounds)
    return Act(ops.rescale_action(raw, low, high), raw)


def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    others = batch.action, batch.reward, batch.discount
    return Batch(obs, *(tf.cast(x, agent.dtype) for x in others), next_obs)


def critic_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Array]]:
    """LossTerms and the raw gradient in both critics; a batch of features, without axis U."""
    policy, smoothing = _policy(agent, state.target_actor), tf.cast(noise.target, agent.dtype)
    critics = _critics(agent, state.target_critics)
    target = td3_target(policy, critics, batch, smoothing, agent.config)
    flat = tf.convert_to_tensor(state.critics)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        terms = critic_loss(_critics(agent, flat), batch, target)
    return terms, {"critics": tape.gradient(terms.loss, flat)}


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """LossTerms and the raw gradient in the actor; a batch of features, without axis U."""
    del noise
    critic, _ = _critics(agent, state.critics)
    flat = tf.convert_to_tensor(state.actor)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        terms = actor_loss(_policy(agent, flat), critic, batch)
    return terms, {"actor": tape.gradient(terms.loss, flat)}


def update_critics(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[State, tuple]:
    """One gradient step of both critics; their terms and gradient norm."""
    terms, grads = critic_gradients(agent, state, batch, noise)
    agent.critic_optimizer(grads["critics"], state.critic_opt, state.critics)
    return state, (*terms, ops.global_norm(grads["critics"]))


def update_actor(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, tuple]:
    """One gradient step of the actor; all targets follow."""
    terms, grads = actor_gradients(agent, state, batch, noise)
    agent.actor_optimizer(grads["actor"], state.actor_opt, state.actor)
    tau = agent.config.tau
    state.target_actor.assign_add(tau * (state.actor - state.target_actor))  # D5
    state.target_critics.assign_add(tau * (state.critics - state.target_critics))
    return state, (*terms, ops.global_norm(grads["actor"]))


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    rows, seen = (batch, noise), []
    for u in range(agent.config.policy_delay):  # D5
        row = tf.nest.map_structure(lambda x, u=u: x[u], rows)
        state, terms = update_critics(agent, state, *row)
        seen.append(terms)
    state, terms = update_actor(agent, state, *row)  # D4
    means = (sum(column) / len(column) for column in zip(*seen, strict=True))
    return state, Metrics(*means, *terms)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All groups of a round, on batches [U, B]; statistics then take the observations in."""

    def body(g):
        group = tf.nest.map_structure(lambda x: tf.gather(x, g), groups)
        return tf.stack(update(agent, state, *group)[1])

    data, delay = prepare(agent, state, batch), agent.config.policy_delay
    groups = tf.nest.map_structure(
        lambda x: tf.reshape(x, (-1, delay, *x.shape[1:])), (data, noise)
    )
    rows = tf.range(agent.config.num_updates // delay)
    metrics = ops.scan(body, rows, len(Metrics._fields), agent.dtype)
    if agent.config.normalize_obs:
        seen = tf.reshape(tf.cast(batch.obs, agent.dtype), (-1, agent.spec.observation_size))
        ops.assign(state.obs_moments, ops.merge_stats(state.obs_moments, seen))  # D7
    return state, Metrics(*tf.unstack(metrics))


def named(agent: AgentDef, tree: Mapping[str, Array]) -> dict[str, Array]:
    """Vectors laid out like the weights, by what they belong to -> canonical names."""
    parts = (ops.unpack(flat, agent.layouts[group]) for group, flat in tree.items())
    return {name: x for part in parts for name, x in part.items()}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    actor, critics = state.actor_opt, state.critic_opt
    pairs = {
        "": (state.actor, state.critics),
        "target/": (state.target_actor, state.target_critics),
        "adam/mu/": (actor.mu, critics.mu),
        "adam/nu/": (actor.nu, critics.nu),
    }
    out = {
        prefix + k: x
        for prefix, pair in pairs.items()
        for k, x in named(agent, dict(zip(("actor", "critics"), pair, strict=True))).items()
    }
    out["adam/actor_count"] = tf.cast(actor.count, tf.int32)
    out["adam/count"] = tf.cast(critics.count, tf.int32)
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.numpy()) for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def variable(name, dtype=agent.dtype):
        return tf.Variable(weights[name], dtype=dtype)

    def both(prefix):
        return [_unnamed(agent, weights, prefix, layout) for layout in agent.layouts.values()]

    counts = (variable(f"adam/{k}", tf.int64) for k in ("actor_count", "count"))
    optimizers = map(ops.Adam, both("adam/mu/"), both("adam/nu/"), counts)
    moments = RunningStats(*(variable(f"obs_moments/{k}") for k in RunningStats._fields))
    return State(*both(""), *both("target/"), *optimizers, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = tf.cast(obs, agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _policy(agent: AgentDef, flat: Array) -> Callable:
    return partial(agent.policy, named(agent, {"actor": flat}))


def _critics(agent: AgentDef, flat: Array) -> tuple[Callable, ...]:
    weights = named(agent, {"critics": flat})
    return tuple(partial(critic, weights) for critic in agent.critics)


def _unnamed(
    agent: AgentDef, weights: Mapping[str, np.ndarray], prefix: str, layout: ops.Layout
) -> tf.Variable:
    arrays = {name: weights[prefix + name] for name in layout}
    return tf.Variable(ops.pack(arrays, layout), dtype=agent.dtype)
