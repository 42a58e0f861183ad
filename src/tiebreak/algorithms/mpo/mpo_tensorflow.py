"""MPO in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.algorithms.mpo import dual_tensorflow as duals
from tiebreak.algorithms.mpo.config import Config
from tiebreak.algorithms.mpo.data import (
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
    Samples,
    initial_dual,
    initial_weights,
)
from tiebreak.algorithms.mpo.dual_scipy import LEAST_LOG
from tiebreak.core.errors import UsageError
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.networks import LayerNormCritic, LayerNormPolicy
from tiebreak.frameworks.tensorflow.ops import Gaussian


def draw_samples(policy: Callable, critics: Sequence, next_obs: Array, noise: Array) -> Samples:
    """Actions of the target policy and what the target critics say; noise [S, B, A]."""
    distribution = policy(next_obs)
    action = distribution.sample(noise)
    obs = tf.broadcast_to(next_obs, (*noise.shape[:2], next_obs.shape[-1]))
    clipped = tf.clip_by_value(action, -1.0, 1.0)  # D1
    obs, clipped = (tf.reshape(x, (-1, x.shape[-1])) for x in (obs, clipped))
    value = reduce(tf.minimum, [critic(obs, clipped) for critic in critics])  # D2
    return Samples(distribution, action, tf.reshape(value, noise.shape[:2]))


def objectives(samples: Samples, config: Config) -> Array:
    """What the samples are reweighted by: Q, and minus the way out of bounds; [M, S, B]."""
    if not config.epsilon_penalty:
        return samples.value[None]
    outside = samples.action - tf.clip_by_value(samples.action, -1.0, 1.0)
    return tf.stack([samples.value, -tf.sqrt(tf.reduce_sum(tf.square(outside), axis=-1))])  # D5


def critic_loss(critics: Sequence[Callable], batch: Batch, target: Array) -> tuple[Array, Array]:
    """Half the mean squared errors, summed over critics; Q of the first. target [B]."""
    values = [critic(batch.obs, batch.action) for critic in critics]
    loss = sum(0.5 * tf.reduce_mean(tf.square(q - target)) for q in values)  # D3
    return loss, tf.reduce_mean(values[0])


def policy_loss(policy: Gaussian, samples: Samples, weights: Array) -> Array:
    """Cross-entropy to the weighted samples, of the mean and of the std apart; weights [S, B]."""
    old = samples.policy
    parts = Gaussian(policy.mean, old.log_std), Gaussian(old.mean, policy.log_std)  # D6
    log_prob = sum(part.log_prob(samples.action) for part in parts)
    return -tf.reduce_mean(tf.reduce_sum(weights * log_prob, axis=0))


def mpo_loss(
    policy: Callable, critics: Sequence[Callable], dual: Mapping[str, Array], samples: Samples,
    batch: Batch, config: Config,
) -> LossTerms:  # fmt: skip
    """All losses; each one's gradient is in its own networks only."""
    hold, mean = tf.stop_gradient, tf.reduce_mean
    target = batch.reward + batch.discount * mean(samples.value, axis=0)  # D2
    critic, q = critic_loss(critics, batch, target)
    values = objectives(samples, config)
    if config.dual == "gradient":
        temperature = duals.positive(dual["log_temperature"])  # D8
    else:
        temperature = getattr(duals, config.dual)(values, config.epsilons)  # D4
    tempered = duals.tempered(values, temperature)
    new = policy(batch.next_obs)
    actor = policy_loss(new, samples, tf.reduce_sum(hold(tempered.weights), axis=0))  # D5
    multipliers = duals.temperature_loss(temperature, tempered, config.epsilons)  # D4
    kls = duals.divergences(new, samples.policy)  # D6
    for part, kl in zip(("mean", "std"), kls, strict=True):
        alpha = duals.positive(dual[f"log_alpha_{part}"])  # D8
        actor += tf.reduce_sum(hold(alpha) * kl)
        multipliers += tf.reduce_sum(alpha * (getattr(config, f"epsilon_{part}") - hold(kl)))
    seen = mean(target), temperature[0], hold(tempered.kl)[0], *(mean(kl) for kl in kls)
    return LossTerms(critic + actor + multipliers, critic, actor, multipliers, q, *seen)


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    policy: LayerNormPolicy
    critics: list[LayerNormCritic]
    optimizers: dict[str, Callable[[Array, ops.Adam, Array], None]]
    layouts: dict[str, ops.Layout]


class State(NamedTuple):
    """What training changes: variables."""

    params: dict[str, tf.Variable]
    target: dict[str, tf.Variable]
    opt_states: dict[str, ops.Adam]
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks and optimizers for a spec; no weights."""
    if config.dual == "slsqp" and not build.host_calls:
        raise UsageError(
            "dual is 'slsqp', which calls SciPy in every update; a program of mode 'xla' cannot "
            "(valid there: 'newton', which finds the same minimum, and 'gradient'); "
            "use --set dual=newton, or --mode function"
        )
    policy = LayerNormPolicy("actor", spec, config.hidden_sizes, config.init_std)
    critics = [LayerNormCritic(name, spec, config.critic_sizes) for name in config.critics]
    optimizers = {
        group: ops.make_optimizer(config.optimizer, lambda count, r=rate: r, config.adam_eps, clip)
        for group, (rate, clip) in config.rates.items()
    }  # D9
    layouts = {
        "actor": policy.shapes(),
        "critic": {k: shape for critic in critics for k, shape in critic.shapes().items()},
        "dual": {f"dual/{k}": v.shape for k, v in initial_dual(spec, config).items()},
    }
    return AgentDef(spec, config, build.dtype, policy, critics, optimizers, layouts)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D11)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D11


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    policy = agent.policy(ops.unpack(state.params["actor"], agent.layouts["actor"]), obs)
    raw = tf.clip_by_value(policy.sample(tf.cast(noise, agent.dtype)), -1.0, 1.0)  # D1
    bounds = (tf.constant(b, agent.dtype) for b in agent.spec.bounds)
    return Act(ops.rescale_action(raw, *bounds), raw)


def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    others = batch.action, batch.reward, batch.discount
    return Batch(obs, *(tf.cast(x, agent.dtype) for x in others), next_obs)


def gradients(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[LossTerms, dict]:
    """Loss terms and the raw gradient in all weights; a batch of features, without axis U."""
    noise = tf.cast(noise.action, agent.dtype)
    samples = draw_samples(*_networks(agent, named(agent, state.target)), batch.next_obs, noise)
    flat = {group: tf.convert_to_tensor(x) for group, x in state.params.items()}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        weights = named(agent, flat)
        dual = {k: weights[f"dual/{k}"] for k in agent.config.dual_names}
        terms = mpo_loss(*_networks(agent, weights), dual, samples, batch, agent.config)
    return terms, tape.gradient(terms.loss, flat)


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One step of each optimizer, and the copies into the target networks when they are due."""
    terms, grads = gradients(agent, state, batch, noise)
    for group, optimizer in agent.optimizers.items():
        optimizer(grads[group], state.opt_states[group], state.params[group])
    dual = state.params["dual"]
    dual.assign(tf.maximum(dual, LEAST_LOG))  # D8
    due = state.opt_states["critic"].count % agent.config.target_period == 0  # D10
    for group, old in state.target.items():
        ops.periodic_update(due, state.params[group], old)
    norms = (ops.global_norm(grads[group]) for group in agent.config.targets)
    return state, Metrics(*terms, *norms)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(u):
        rows = tf.nest.map_structure(lambda x: tf.gather(x, u), (data, noise))
        return tf.stack(update(agent, state, *rows)[1])

    data, rows = prepare(agent, state, batch), tf.range(agent.config.num_updates)
    metrics = ops.scan(body, rows, len(Metrics._fields), agent.dtype)
    if agent.config.normalize_obs:
        seen = tf.reshape(tf.cast(batch.obs, agent.dtype), (-1, agent.spec.observation_size))
        ops.assign(state.obs_moments, ops.merge_stats(state.obs_moments, seen))  # D7
    return state, Metrics(*tf.unstack(metrics))


def named(agent: AgentDef, tree: Mapping[str, Array]) -> dict[str, Array]:
    """What each optimizer's part of the weights is laid out like -> canonical names."""
    parts = [ops.unpack(flat, agent.layouts[group]) for group, flat in tree.items()]
    return {k: x for part in parts for k, x in part.items()}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adams = state.opt_states.items()
    trees = {"": state.params, "target/": state.target}
    trees.update({f"adam/{k}/": {g: getattr(x, k) for g, x in adams} for k in ("mu", "nu")})
    out = {prefix + k: v for prefix, t in trees.items() for k, v in named(agent, t).items()}
    out["adam/count"] = tf.cast(state.opt_states["critic"].count, tf.int32)
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.numpy()) for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def variable(name, dtype=agent.dtype):
        return tf.Variable(weights[name], dtype=dtype)

    def flat(prefix, group):
        layout = agent.layouts[group]
        arrays = {name: weights[prefix + name] for name in layout}
        return tf.Variable(ops.pack(arrays, layout), dtype=agent.dtype)

    opt_states = {}
    for group in agent.layouts:
        moving = (flat(f"adam/{k}/", group) for k in ("mu", "nu"))
        opt_states[group] = ops.Adam(*moving, variable("adam/count", tf.int64))
    moments = RunningStats(*(variable(f"obs_moments/{k}") for k in RunningStats._fields))
    params = {group: flat("", group) for group in agent.layouts}
    target = {group: flat("target/", group) for group in agent.config.targets}
    return State(params, target, opt_states, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = tf.cast(obs, agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _networks(agent: AgentDef, weights: Mapping[str, Array]) -> tuple:
    """Policy and critics as functions of their inputs."""
    return partial(agent.policy, weights), [partial(c, weights) for c in agent.critics]
