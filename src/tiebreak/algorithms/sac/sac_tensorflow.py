"""SAC in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import (
    COUNTS,
    CRITICS,
    ActorTerms,
    AlphaTerms,
    CriticTerms,
    Metrics,
    Noise,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.networks import Critic, SquashedPolicy


def critic_target(
    policy: Callable, targets: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> Array:
    """What both critics are moved towards; [B]."""
    action, log_prob = policy(batch.next_obs).sample_log_prob(noise.next_action)  # D1
    q1, q2 = (q(batch.next_obs, action) for q in targets)
    soft_value = tf.minimum(q1, q2) - tf.exp(log_alpha) * log_prob  # D4 D6
    return tf.stop_gradient(batch.reward + batch.discount * soft_value)


def critic_loss(critics: tuple, batch: Batch, target: Array) -> CriticTerms:
    """Both critics' mean squared temporal-difference errors, summed; target [B]."""
    q1, q2 = (q(batch.obs, batch.action) for q in critics)
    loss = tf.reduce_mean(tf.square(q1 - target)) + tf.reduce_mean(tf.square(q2 - target))  # D4
    return CriticTerms(loss, *(tf.reduce_mean(x) for x in (q1, q2, target)))


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> ActorTerms:
    """Minus the soft value, mean of Q − α·log π, of the policy's own actions."""
    action, log_prob = policy(batch.obs).sample_log_prob(noise.action)  # D1
    q1, q2 = (q(batch.obs, action) for q in critics)
    q = tf.minimum(q1, q2)  # D5
    loss = tf.reduce_mean(tf.exp(log_alpha) * log_prob - q)  # D6
    return ActorTerms(loss, tf.reduce_mean(q), -tf.reduce_mean(log_prob))


def alpha_loss(
    policy: Callable, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> AlphaTerms:
    """Raises α while the policy's entropy is below its target, and lowers it above."""
    _, log_prob = policy(batch.obs).sample_log_prob(noise.action)
    target_entropy = -config.target_entropy_scale * noise.action.shape[-1]  # D6
    missing = tf.stop_gradient(tf.reduce_mean(log_prob) + target_entropy)
    return AlphaTerms(-log_alpha * missing, tf.exp(log_alpha))  # D6


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    actor: SquashedPolicy
    critics: tuple[Critic, ...]
    optimizers: dict[str, Callable[[Array, ops.Adam, Array], None]]
    layouts: dict[str, ops.Layout]


class State(NamedTuple):
    """What training changes: variables; dictionaries by optimizer: critic, actor, alpha."""

    params: dict[str, tf.Variable]
    target: tf.Variable
    opt_state: dict[str, ops.Adam]
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks and optimizers for a spec; no weights."""
    shape = spec, config.hidden_sizes, config.activation
    actor = SquashedPolicy("actor", *shape, config.log_std_range)
    critics = tuple(Critic(name, *shape) for name in CRITICS)
    optimizers = make_optimizers(config, ops.make_optimizer)  # D8
    twins = critics[0].shapes() | critics[1].shapes()
    layouts = {"critic": twins, "actor": actor.shapes(), "alpha": {"log_alpha": ()}}
    return AgentDef(spec, config, build.dtype, actor, critics, optimizers, layouts)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D10)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D10


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    raw = _policy(agent, state.params["actor"])(obs).sample(tf.cast(noise, agent.dtype))  # D1
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
    target = critic_target(policy, targets, _log_alpha(agent, state), batch, noise)
    flat = tf.convert_to_tensor(state.params["critic"])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        terms = critic_loss(_critics(agent, flat), batch, target)
    return terms, {"critic": tape.gradient(terms.loss, flat)}


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    critics, log_alpha = _critics(agent, state.params["critic"]), _log_alpha(agent, state)
    flat = tf.convert_to_tensor(state.params["actor"])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        terms = actor_loss(_policy(agent, flat), critics, log_alpha, batch, noise)
    return terms, {"actor": tape.gradient(terms.loss, flat)}


def alpha_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, Array]]:
    """Loss terms and the raw gradient in log α; a batch of features, without axis U."""
    policy = _policy(agent, state.params["actor"])
    flat = tf.convert_to_tensor(state.params["alpha"])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        log_alpha = named(agent, {"alpha": flat})["log_alpha"]
        terms = alpha_loss(policy, log_alpha, batch, noise, agent.config)
    return terms, {"alpha": tape.gradient(terms.loss, flat)}


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """Critics, actor, α, targets, in this order: each sees what those before have become."""
    critic, grads = critic_gradients(agent, state, batch, noise)  # D7
    critic_norm = _apply(agent, state, grads)
    actor, grads = actor_gradients(agent, state, batch, noise)
    actor_norm = _apply(agent, state, grads)
    alpha, grads = alpha_gradients(agent, state, batch, noise)
    _apply(agent, state, grads)
    state.target.assign_add(agent.config.tau * (state.params["critic"] - state.target))  # D9
    return state, Metrics(*critic, *actor, *alpha, critic_norm, actor_norm)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(u):
        rows = tf.nest.map_structure(lambda x: tf.gather(x, u), (data, noise))
        return tf.stack(update(agent, state, *rows)[1])

    data = prepare(agent, state, batch)
    noise = Noise(*(tf.cast(x, agent.dtype) for x in noise))
    updates = tf.range(agent.config.num_updates)
    metrics = ops.scan(body, updates, len(Metrics._fields), agent.dtype)
    if agent.config.normalize_obs:
        seen = tf.reshape(tf.cast(batch.obs, agent.dtype), (-1, agent.spec.observation_size))
        ops.assign(state.obs_moments, ops.merge_stats(state.obs_moments, seen))  # D11
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
    return partial(agent.actor, named(agent, {"actor": flat}))


def _critics(agent: AgentDef, flat: Array) -> tuple[Callable, ...]:
    weights = named(agent, {"critic": flat})
    return tuple(partial(critic, weights) for critic in agent.critics)


def _log_alpha(agent: AgentDef, state: State) -> Array:
    return named(agent, {"alpha": state.params["alpha"]})["log_alpha"]


def _apply(agent: AgentDef, state: State, grads: dict[str, Array]) -> Array:
    """A step of the one optimizer that `grads` is for; the norm before clipping."""
    ((name, flat),) = grads.items()
    agent.optimizers[name](flat, state.opt_state[name], state.params[name])
    return ops.global_norm(flat)


def _unnamed(agent: AgentDef, weights: Mapping, name: str, prefix: str) -> tf.Variable:
    arrays = {k: weights[prefix + k] for k in agent.layouts[name]}
    return tf.Variable(ops.pack(arrays, agent.layouts[name]), dtype=agent.dtype)
