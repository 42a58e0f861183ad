"""MPO in Flax NNX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tiebreak.algorithms.mpo.config import Config
from tiebreak.algorithms.mpo.data import (
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
    initial_dual,
    initial_weights,
)
from tiebreak.algorithms.mpo.dual_scipy import LEAST_LOG
from tiebreak.algorithms.mpo.losses_jax import draw_samples, mpo_loss
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.nnx import LayerNormCritic, LayerNormPolicy
from tiebreak.frameworks.jax.trees import name_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    optimizers: dict[str, optax.GradientTransformation]


class State(nnx.Module):
    """What training changes; the functions below may change it in place."""

    def __init__(self, agent: AgentDef):
        spec, config, dtype, optimizers = agent
        self.networks, self.target = (_networks(agent) for _ in range(2))
        self.networks["dual"] = nnx.Dict(dual=nnx.Dict({
            k: nnx.Param(jnp.array(v, dtype)) for k, v in initial_dual(spec, config).items()
        }))  # fmt: skip
        self.optimizers = nnx.Dict({
            group: nnx.Optimizer(self.networks[group], optimizers[group], wrt=nnx.Param)
            for group in config.groups
        })  # fmt: skip
        size = spec.observation_size
        self.obs_moments = Statistic(RunningStats(*(jnp.zeros(s, dtype) for s in ((), size, size))))


class Statistic(nnx.Variable):
    """Part of the state that is neither trained nor the optimizers'."""


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """The optimizers for a spec; no weights."""
    optimizers = {
        group: ops.make_optimizer(config.optimizer, lambda count, r=rate: r, config.adam_eps, clip)
        for group, (rate, clip) in config.rates.items()
    }  # D9
    return AgentDef(spec, config, build.dtype, optimizers)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D11)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D11


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    policy = state.networks["actor"]["actor"](obs)
    raw = jnp.clip(policy.sample(jnp.asarray(noise, agent.dtype)), -1.0, 1.0)  # D1
    bounds = (jnp.array(b, agent.dtype) for b in agent.spec.bounds)
    return Act(ops.rescale_action(raw, *bounds), raw)


def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    others = batch.action, batch.reward, batch.discount
    return Batch(obs, *(jnp.asarray(x, agent.dtype) for x in others), next_obs)


def gradients(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[LossTerms, Any]:
    """Loss terms and the raw gradient in all weights; a batch of features, without axis U."""
    drawn = jnp.asarray(noise.action, agent.dtype)
    samples = draw_samples(*_parts(agent, state.target), batch.next_obs, drawn)

    def loss(networks):
        dual = {k: networks["dual"]["dual"][k][...] for k in agent.config.dual_names}
        terms = mpo_loss(*_parts(agent, networks), dual, samples, batch, agent.config)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.networks)
    return terms, grads


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One step of each optimizer, and the copies into the target networks when they are due."""
    terms, grads = gradients(agent, state, batch, noise)
    norms = {}
    for group in agent.config.groups:
        norms[group] = ops.global_norm(nnx.as_pure(grads[group]))
        state.optimizers[group].update(state.networks[group], grads[group])
    dual = nnx.state(state.networks["dual"], nnx.Param)
    least = jax.tree.map(lambda x: jnp.maximum(x, LEAST_LOG), dual)  # D8
    nnx.update(state.networks["dual"], least)
    count = state.optimizers["critic"].opt_state[1].count[...]
    due = count % agent.config.target_period == 0  # D10
    for group in agent.config.targets:
        new, old = (nnx.state(x[group], nnx.Param) for x in (state.networks, state.target))
        copied = jax.tree.map(lambda new, old: jnp.where(due, new, old), new, old)
        nnx.update(state.target[group], copied)
    return state, Metrics(*terms, norms["actor"], norms["critic"])


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, row):
        return update(agent, state, *row)

    data = prepare(agent, state, batch)
    state, metrics = ops.scan(body, state, (data, noise))
    if agent.config.normalize_obs:
        rows = jnp.asarray(batch.obs, agent.dtype).reshape(-1, agent.spec.observation_size)
        moments = ops.merge_stats(state.obs_moments.get_value(), rows)  # D7
        state.obs_moments.set_value(moments)
    return state, jax.tree.map(jnp.mean, metrics)


def named(agent: AgentDef, tree: Any) -> dict[str, Array]:
    """What each optimizer's part of the weights is shaped like -> canonical names."""
    flat = [pair for group in agent.config.groups if group in tree
            for pair in nnx.to_flat_state(tree[group])]  # fmt: skip
    return {name_of(path): nnx.as_pure(x) for path, x in flat}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    trees, out = _trees(agent, state), {}
    for prefix, tree in trees.items():
        out.update({prefix + k: v for k, v in named(agent, tree).items()})
    out["adam/count"] = state.optimizers["critic"].opt_state[1].count[...]
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments.get_value()._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    state = State(agent)
    for prefix, tree in _trees(agent, state).items():
        for part in tree.values():
            for path, variable in nnx.to_flat_state(part):
                variable.set_value(jnp.array(weights[prefix + name_of(path)], agent.dtype))
    for group in agent.config.groups:
        _, adam, schedule = state.optimizers[group].opt_state
        for count in (adam.count, schedule.count):
            count[...] = jnp.array(weights["adam/count"], jnp.int32)
    moments = (jnp.array(weights[f"obs_moments/{k}"], agent.dtype) for k in RunningStats._fields)
    state.obs_moments.set_value(RunningStats(*moments))
    return state


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, agent.dtype)
    if not agent.config.normalize_obs:
        return obs
    return ops.normalize(obs, state.obs_moments.get_value())


def _networks(agent: AgentDef) -> nnx.Dict:
    """Policy and critics, by the optimizer that trains them."""
    spec, config, dtype, _ = agent
    policy = LayerNormPolicy(spec, config.hidden_sizes, config.init_std, dtype, nnx.Rngs(0))
    critics = {
        name: LayerNormCritic(spec, config.critic_sizes, dtype, nnx.Rngs(0))
        for name in config.critics
    }
    return nnx.Dict(actor=nnx.Dict(actor=policy), critic=nnx.Dict(critics))


def _parts(agent: AgentDef, networks: Any) -> tuple:
    """Policy and critics."""
    critics = [networks["critic"][name] for name in agent.config.critics]
    return networks["actor"]["actor"], critics


def _trees(agent: AgentDef, state: State) -> dict[str, dict[str, Any]]:
    """The beginning of a canonical name -> group -> a state of variables."""
    groups = agent.config.groups
    adams = {group: state.optimizers[group].opt_state[1] for group in groups}
    moving = {f"adam/{k}/": {g: getattr(x, k) for g, x in adams.items()} for k in ("mu", "nu")}
    networks = {group: nnx.state(state.networks[group], nnx.Param) for group in groups}
    target = {group: nnx.state(state.target[group], nnx.Param) for group in agent.config.targets}
    return {"": networks, "target/": target, **moving}
