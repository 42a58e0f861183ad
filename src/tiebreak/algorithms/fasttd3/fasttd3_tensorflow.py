"""FastTD3 in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.algorithms.fasttd3.data import (
    COUNTS,
    CRITICS,
    ActorTerms,
    CriticTerms,
    Metrics,
    Noise,
    actor_spec,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.networks import Critic, DeterministicPolicy


def target_distribution(
    policy: Callable, critics: tuple, batch: Batch, noise: Noise, config: Config
) -> Array:
    """What both critics are moved towards, by target critics; [B, K]."""
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
    """The sum of both cross-entropies; target [B, K]."""
    one, two = (critic(batch.obs, batch.action) for critic in critics)
    shares = (tf.reduce_sum(target * tf.nn.log_softmax(q), axis=1) for q in (one, two))
    loss = sum(-tf.reduce_mean(share) for share in shares)  # D4
    atoms = ops.atoms(*config.span, target)
    means = (tf.reduce_sum(p * atoms, axis=1) for p in (*map(tf.nn.softmax, (one, two)), target))
    return CriticTerms(loss, *map(tf.reduce_mean, means))


def actor_loss(policy: Callable, critics: tuple, batch: Batch, config: Config) -> ActorTerms:
    """What the policy's actions are worth to the critic that expects less of them, negated."""
    action = policy(batch.obs)
    one, two = (tf.nn.softmax(critic(batch.obs, action)) for critic in critics)
    atoms = ops.atoms(*config.span, one)
    q1, q2 = (tf.reduce_sum(probs * atoms, axis=1) for probs in (one, two))
    return ActorTerms(-tf.reduce_mean(tf.minimum(q1, q2)))  # D5


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    network_dtype: str
    actor: DeterministicPolicy
    critics: tuple[Critic, ...]
    optimizers: dict[str, Callable[[Array, ops.Adam, Array], None]]
    layouts: dict[str, ops.Layout]


class State(NamedTuple):
    """What training changes: variables; dictionaries by optimizer: critic, actor."""

    params: dict[str, tf.Variable]
    target: tf.Variable
    opt_state: dict[str, ops.Adam]
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks and optimizers for a spec; no weights."""
    kind = config.activation
    actor = DeterministicPolicy("actor", actor_spec(spec), config.actor_sizes, kind)
    shape = spec, config.critic_sizes, kind, config.num_atoms  # D3
    critics = tuple(Critic(name, *shape) for name in CRITICS)
    optimizers = make_optimizers(config, ops.make_optimizer)  # D7
    layouts = {"critic": critics[0].shapes() | critics[1].shapes(), "actor": actor.shapes()}
    dtypes = build.dtype, build.network_dtype or build.dtype  # D10
    return AgentDef(spec, config, *dtypes, actor, critics, optimizers, layouts)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D8


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] in units of actions -> Act; zero noise is greedy."""
    obs = _features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    greedy = _policy(agent, state.params["actor"])(obs)
    raw = tf.clip_by_value(greedy + tf.cast(noise, agent.dtype), -1.0, 1.0)  # D1
    low, high = (tf.constant(b, agent.dtype) for b in agent.spec.bounds)
    return Act(ops.rescale_action(raw, low, high), raw)


def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    batch = Batch(*(tf.cast(x, agent.dtype) for x in batch))
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    return batch._replace(obs=obs, next_obs=next_obs)


def critic_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Array]]:
    """Loss terms and the critics' raw gradient; a batch of features, without axis U."""
    policy, targets = _policy(agent, state.params["actor"]), _critics(agent, state.target)
    target = target_distribution(policy, targets, batch, noise, agent.config)
    flat = tf.convert_to_tensor(state.params["critic"])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        terms = critic_loss(_critics(agent, flat), batch, target, agent.config)
    return terms, {"critic": tape.gradient(terms.loss, flat)}


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    critics = _critics(agent, state.params["critic"])
    flat = tf.convert_to_tensor(state.params["actor"])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        terms = actor_loss(_policy(agent, flat), critics, batch, agent.config)
    return terms, {"actor": tape.gradient(terms.loss, flat)}


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    tau, seen = agent.config.tau, []
    for u in range(agent.config.policy_delay):  # D6
        row = tf.nest.map_structure(lambda x, u=u: x[u], (batch, noise))
        terms, grads = critic_gradients(agent, state, *row)
        norm = _apply(agent, state, grads)
        state.target.assign_add(tau * (state.params["critic"] - state.target))  # D6
        seen.append((*terms, norm))
    terms, grads = actor_gradients(agent, state, *row)  # D5
    norm = _apply(agent, state, grads)
    means = (sum(column) / len(column) for column in zip(*seen, strict=True))
    return state, Metrics(*means, *terms, norm)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All groups of a round, on batches [U, B]; statistics then take the observations in."""

    def body(g):
        group = tf.nest.map_structure(lambda x: tf.gather(x, g), groups)
        return tf.stack(update(agent, state, *group)[1])

    data, delay = prepare(agent, state, batch), agent.config.policy_delay
    noise = Noise(*(tf.cast(x, agent.dtype) for x in noise))
    groups = tf.nest.map_structure(
        lambda x: tf.reshape(x, (-1, delay, *x.shape[1:])), (data, noise)
    )
    rows = tf.range(agent.config.num_updates // delay)
    metrics = ops.scan(body, rows, len(Metrics._fields), agent.dtype)
    if agent.config.normalize_obs:
        seen = tf.reshape(tf.cast(batch.obs, agent.dtype), (-1, agent.spec.observation_size))
        ops.assign(state.obs_moments, ops.merge_stats(state.obs_moments, seen))  # D9
    return state, Metrics(*tf.unstack(metrics))


def named(agent: AgentDef, tree: dict[str, Array]) -> dict[str, Array]:
    """Vectors laid out like the weights, by optimizer -> canonical names."""
    parts = (ops.unpack(flat, agent.layouts[name]) for name, flat in tree.items())
    return {k: v for part in parts for k, v in part.items()}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    mu, nu = ({k: getattr(x, m) for k, x in state.opt_state.items()} for m in ("mu", "nu"))
    trees = {"": state.params, "target/": {"critic": state.target}, "adam/mu/": mu, "adam/nu/": nu}
    out = {p + k: v for p, tree in trees.items() for k, v in named(agent, tree).items()}
    out.update({c: tf.cast(state.opt_state[k].count, tf.int32) for k, c in COUNTS.items()})
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.numpy()) for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def variable(name, dtype=agent.dtype):
        return tf.Variable(weights[name], dtype=dtype)

    flat, params, adams = partial(_unnamed, agent, weights), {}, {}
    for name, count in COUNTS.items():
        params[name], *moving = (flat(name, prefix) for prefix in ("", "adam/mu/", "adam/nu/"))
        adams[name] = ops.Adam(*moving, variable(count, tf.int64))
    moments = RunningStats(*(variable(f"obs_moments/{k}") for k in RunningStats._fields))
    return State(params, flat("critic", "target/"), adams, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = tf.cast(obs, agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _policy(agent: AgentDef, flat: Array) -> Callable:
    """Features -> actions, from what the actor may see, in the working precision."""
    weights = named(agent, {"actor": tf.cast(flat, agent.network_dtype)})
    computing = partial(_computed, agent, agent.actor, weights)
    return lambda obs: computing(obs[:, : agent.spec.visible_size])  # D9


def _critics(agent: AgentDef, flat: Array) -> tuple[Callable, ...]:
    """Features and actions -> logits, in the working precision."""
    weights = named(agent, {"critic": tf.cast(flat, agent.network_dtype)})
    return tuple(partial(_computed, agent, critic, weights) for critic in agent.critics)


def _computed(agent: AgentDef, network: Callable, weights: Mapping, *inputs: Array) -> Array:
    inputs = tuple(tf.cast(x, agent.network_dtype) for x in inputs)  # D10
    return tf.cast(network(weights, *inputs), agent.dtype)


def _apply(agent: AgentDef, state: State, grads: dict[str, Array]) -> Array:
    """A step of the one optimizer that `grads` is for; the norm before clipping."""
    ((name, flat),) = grads.items()
    agent.optimizers[name](flat, state.opt_state[name], state.params[name])
    return ops.global_norm(flat)


def _unnamed(agent: AgentDef, weights: Mapping, name: str, prefix: str) -> tf.Variable:
    arrays = {k: weights[prefix + k] for k in agent.layouts[name]}
    return tf.Variable(ops.pack(arrays, agent.layouts[name]), dtype=agent.dtype)
