"""DQN in Flax NNX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Act, Batch, LossTerms, Metrics, Noise, initial_weights
from tiebreak.algorithms.dqn.losses_jax import dqn_loss, dqn_target, epsilon
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.nnx import ActionValues
from tiebreak.frameworks.jax.trees import name_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    optimizer: optax.GradientTransformation


class State(nnx.Module):
    """What training changes; the functions below may change it in place."""

    def __init__(self, agent: AgentDef):
        spec, config, dtype, optimizer = agent
        args = (spec, config.hidden_sizes, config.activation, dtype, nnx.Rngs(0))
        self.networks = nnx.Dict(q=ActionValues(*args))
        self.target = nnx.Dict(q=ActionValues(*args))
        self.optimizer = nnx.Optimizer(self.networks, optimizer, wrt=nnx.Param)
        size = spec.observation_size
        self.obs_moments = Statistic(RunningStats(*(jnp.zeros(s, dtype) for s in ((), size, size))))


class Statistic(nnx.Variable):
    """Part of the state that is neither trained nor the optimizer's."""


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """The optimizer for a spec; no weights."""
    optimizer = ops.make_optimizer(
        config.optimizer, lambda count: config.learning_rate, config.adam_eps, config.max_grad_norm
    )  # D5
    return AgentDef(spec, config, build.dtype, optimizer)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D6)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D6


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, 2] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    q = state.networks.q(obs)
    count = state.optimizer.opt_state[1].count[...]
    explore = noise[:, 0] > 1.0 - epsilon(agent.config, count)  # D1
    anywhere = (noise[:, 1] * agent.spec.action_size).astype(jnp.int32)
    action = jnp.where(explore, anywhere, jnp.argmax(q, axis=-1).astype(jnp.int32))
    return Act(action, action)


def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    reward, discount = (jnp.asarray(x, agent.dtype) for x in (batch.reward, batch.discount))
    return Batch(obs, jnp.asarray(batch.action), reward, discount, next_obs)


def gradients(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[LossTerms, Any]:
    """Loss terms and the raw gradient in the weights; a batch of features, without axis U."""
    del noise
    target = dqn_target(state.networks.q, state.target.q, batch, agent.config)

    def loss(networks):
        terms = dqn_loss(networks.q, batch, target)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.networks)
    return terms, grads


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One gradient step, and the copy into the target network when it is due."""
    terms, grads = gradients(agent, state, batch, noise)
    state.optimizer.update(state.networks, grads)
    due = state.optimizer.opt_state[1].count[...] % agent.config.target_period == 0  # D4
    new, old = (nnx.state(tree, nnx.Param) for tree in (state.networks, state.target))
    nnx.update(state.target, ops.periodic_update(due, new, old))
    return state, Metrics(*terms, grad_norm=ops.global_norm(nnx.as_pure(grads)))


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
    """A state shaped like the weights -> canonical names."""
    del agent
    return {name_of(path): nnx.as_pure(x) for path, x in nnx.to_flat_state(tree)}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adam = state.optimizer.opt_state[1]
    out = named(agent, nnx.state(state.networks, nnx.Param))
    target = nnx.state(state.target, nnx.Param)
    trees = ("target", target), ("adam/mu", adam.mu), ("adam/nu", adam.nu)
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(agent, tree).items()})
    out["adam/count"] = adam.count[...]
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments.get_value()._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    state = State(agent)
    _put(agent, nnx.state(state.networks, nnx.Param), weights, "")
    _put(agent, nnx.state(state.target, nnx.Param), weights, "target/")
    _, adam, schedule = state.optimizer.opt_state
    _put(agent, adam.mu, weights, "adam/mu/")
    _put(agent, adam.nu, weights, "adam/nu/")
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


def _put(agent: AgentDef, tree: Any, weights: Mapping[str, np.ndarray], prefix: str) -> None:
    for path, variable in nnx.to_flat_state(tree):
        variable.set_value(jnp.array(weights[prefix + name_of(path)], agent.dtype))
