"""PPO in Flax NNX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    Rollout,
    initial_weights,
)
from tiebreak.algorithms.ppo.losses_jax import advantages, learning_rate, ppo_loss, scale_rewards
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.nnx import Policy, Value


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
        self.networks = nnx.Dict(actor=Policy(*args), critic=Value(*args))
        self.optimizer = nnx.Optimizer(self.networks, optimizer, wrt=nnx.Param)
        size = spec.observation_size
        self.obs_moments = Statistic(RunningStats(*(jnp.zeros(s, dtype) for s in ((), size, size))))
        self.return_moments = Statistic(RunningStats(*(jnp.zeros((), dtype) for _ in range(3))))
        self.running_return = Statistic(jnp.zeros(config.num_envs, dtype))


class Statistic(nnx.Variable):
    """Part of the state that is neither trained nor the optimizer's."""


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """The optimizer for a spec; no weights."""
    schedule = partial(learning_rate, config)
    optimizer = ops.make_optimizer(
        config.optimizer, schedule, config.adam_eps, config.max_grad_norm
    )  # D7 D8
    return AgentDef(spec, config, build.dtype, optimizer)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D12)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D12


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, action_size] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs)
    distribution = state.networks.actor(obs)
    raw = action = distribution.sample(jnp.asarray(noise, agent.dtype))  # D1
    if not agent.spec.discrete:  # D3
        low, high = (jnp.asarray(b, agent.dtype) for b in agent.spec.bounds)
        action = ops.rescale_action(raw, low, high)
    value = state.networks.critic(obs)
    return Act(action, raw, distribution.log_prob(raw), value)


def prepare(agent: AgentDef, state: State, batch: Rollout) -> tuple[State, Minibatch]:
    """Advantages and targets of a rollout, flattened to B rows; normalizers take it in."""
    config, rows = agent.config, batch.reward.size
    batch = jax.tree.map(lambda x: _cast(x, agent.dtype), batch)
    reward = batch.reward
    if config.normalize_reward:
        reward, running_return, return_moments = scale_rewards(
            batch, state.running_return.get_value(), state.return_moments.get_value(), config
        )
        state.running_return.set_value(running_return)
        state.return_moments.set_value(return_moments)
    next_obs = _features(agent, state, batch.next_obs.reshape(rows, -1))
    next_value = state.networks.critic(next_obs)  # D2
    advantage = advantages(batch, reward, next_value.reshape(reward.shape), config)
    raw_obs = batch.obs.reshape(rows, -1)
    data = Minibatch(
        _features(agent, state, raw_obs),
        batch.action.reshape(rows, *batch.action.shape[2:]),
        *(x.reshape(rows) for x in (batch.log_prob, batch.value, advantage)),
        (advantage + batch.value).reshape(rows),
    )
    if config.normalize_obs:
        obs_moments = ops.merge_stats(state.obs_moments.get_value(), raw_obs)  # D10
        state.obs_moments.set_value(obs_moments)
    return state, data


def gradients(agent: AgentDef, state: State, minibatch: Minibatch) -> tuple[LossTerms, Any]:
    """Loss terms and the raw gradient in the weights."""

    def loss(networks):
        terms = ppo_loss(networks.actor, networks.critic, minibatch, agent.config)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.networks)
    return terms, grads


def update(agent: AgentDef, state: State, minibatch: Minibatch) -> tuple[State, Metrics]:
    """One gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state.optimizer.update(state.networks, grads)
    return state, Metrics(*terms, grad_norm=ops.global_norm(nnx.as_pure(grads)))


def step(agent: AgentDef, state: State, batch: Rollout, noise: Noise) -> tuple[State, Metrics]:
    """One iteration: prepare, then every epoch's minibatches."""
    state, data = prepare(agent, state, batch)
    size = agent.config.batch_size // agent.config.num_minibatches

    def body(state, rows):
        return update(agent, state, jax.tree.map(lambda x: x[rows], data))

    state, metrics = ops.scan(body, state, jnp.reshape(noise.permutation, (-1, size)))
    return state, jax.tree.map(jnp.mean, metrics)


def named(agent: AgentDef, tree: Any) -> dict[str, Array]:
    """A state shaped like the weights -> canonical names."""
    del agent
    return {_name(path): nnx.as_pure(x) for path, x in nnx.to_flat_state(tree)}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adam = state.optimizer.opt_state[1]
    out = named(agent, nnx.state(state.networks, nnx.Param))
    out.update({f"adam/mu/{k}": v for k, v in named(agent, adam.mu).items()})
    out.update({f"adam/nu/{k}": v for k, v in named(agent, adam.nu).items()})
    out["adam/count"] = adam.count[...]
    for name, moments in (("obs", state.obs_moments), ("return", state.return_moments)):
        out.update({f"{name}_moments/{k}": v for k, v in moments.get_value()._asdict().items()})
    out["running_return"] = state.running_return[...]
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    state = State(agent)
    _put(agent, nnx.state(state.networks, nnx.Param), weights, "")
    _, adam, schedule = state.optimizer.opt_state
    _put(agent, adam.mu, weights, "adam/mu/")
    _put(agent, adam.nu, weights, "adam/nu/")
    for count in (adam.count, schedule.count):
        count[...] = jnp.array(weights["adam/count"], jnp.int32)
    for name, moments in (("obs", state.obs_moments), ("return", state.return_moments)):
        values = (weights[f"{name}_moments/{k}"] for k in RunningStats._fields)
        moments.set_value(RunningStats(*(jnp.array(v, agent.dtype) for v in values)))
    state.running_return.set_value(jnp.array(weights["running_return"], agent.dtype))
    return state


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, agent.dtype).reshape(len(obs), -1)
    if not agent.config.normalize_obs:
        return obs
    return ops.normalize(obs, state.obs_moments.get_value())


def _cast(x: Array, dtype: str) -> Array:
    return jnp.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x)


def _name(path: tuple) -> str:
    return "/".join(str(part) for part in path if part not in ("mlp", "layers"))


def _put(agent: AgentDef, tree: Any, weights: Mapping[str, np.ndarray], prefix: str) -> None:
    for path, variable in nnx.to_flat_state(tree):
        variable.set_value(jnp.array(weights[prefix + _name(path)], agent.dtype))
