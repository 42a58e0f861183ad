"""PPO in Equinox; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

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
from tiebreak.frameworks.jax.equinox import Policy, Value


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    optimizer: optax.GradientTransformation


class State(eqx.Module):
    """What training changes."""

    networks: dict[str, Any]
    opt_state: Any
    obs_moments: RunningStats
    return_moments: RunningStats
    running_return: Array


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
    distribution = state.networks["actor"](obs)
    raw = action = distribution.sample(jnp.asarray(noise, agent.dtype))  # D1
    if not agent.spec.discrete:  # D3
        low, high = (jnp.asarray(b, agent.dtype) for b in agent.spec.bounds)
        action = ops.rescale_action(raw, low, high)
    value = state.networks["critic"](obs)
    return Act(action, raw, distribution.log_prob(raw), value)


def prepare(agent: AgentDef, state: State, batch: Rollout) -> tuple[State, Minibatch]:
    """Advantages and targets of a rollout, flattened to B rows; normalizers take it in."""
    config, rows = agent.config, batch.reward.size
    batch = jax.tree.map(lambda x: _cast(x, agent.dtype), batch)
    reward, running_return, return_moments = (
        batch.reward,
        state.running_return,
        state.return_moments,
    )
    if config.normalize_reward:
        reward, running_return, return_moments = scale_rewards(
            batch, running_return, return_moments, config
        )
    next_obs = _features(agent, state, batch.next_obs.reshape(rows, -1))
    next_value = state.networks["critic"](next_obs)  # D2
    advantage = advantages(batch, reward, next_value.reshape(reward.shape), config)
    raw_obs = batch.obs.reshape(rows, -1)
    data = Minibatch(
        _features(agent, state, raw_obs),
        batch.action.reshape(rows, *batch.action.shape[2:]),
        *(x.reshape(rows) for x in (batch.log_prob, batch.value, advantage)),
        (advantage + batch.value).reshape(rows),
    )
    obs_moments = state.obs_moments
    if config.normalize_obs:
        obs_moments = ops.merge_stats(obs_moments, raw_obs)  # D10
    changed = (obs_moments, return_moments, running_return)
    return eqx.tree_at(_statistics, state, changed), data


def gradients(agent: AgentDef, state: State, minibatch: Minibatch) -> tuple[LossTerms, Any]:
    """Loss terms and the raw gradient in the weights."""

    def loss(networks):
        terms = ppo_loss(networks["actor"], networks["critic"], minibatch, agent.config)
        return terms.loss, terms

    grads, terms = eqx.filter_grad(loss, has_aux=True)(state.networks)
    return terms, grads


def update(agent: AgentDef, state: State, minibatch: Minibatch) -> tuple[State, Metrics]:
    """One gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    changes, opt_state = agent.optimizer.update(grads, state.opt_state, state.networks)
    networks = eqx.apply_updates(state.networks, changes)
    state = eqx.tree_at(lambda s: (s.networks, s.opt_state), state, (networks, opt_state))
    return state, Metrics(*terms, grad_norm=ops.global_norm(grads))


def step(agent: AgentDef, state: State, batch: Rollout, noise: Noise) -> tuple[State, Metrics]:
    """One iteration: prepare, then every epoch's minibatches."""
    state, data = prepare(agent, state, batch)
    size = agent.config.batch_size // agent.config.num_minibatches

    def body(state, rows):
        return update(agent, state, jax.tree.map(lambda x: x[rows], data))

    state, metrics = ops.scan(body, state, jnp.reshape(noise.permutation, (-1, size)))
    return state, jax.tree.map(jnp.mean, metrics)


def named(agent: AgentDef, tree: Any) -> dict[str, Array]:
    """A tree shaped like the weights -> canonical names."""
    del agent
    out = {}
    for network in ("actor", "critic"):
        for i, layer in enumerate(tree[network].mlp.layers):
            out[f"{network}/{i}/kernel"] = layer.kernel
            out[f"{network}/{i}/bias"] = layer.bias
    if tree["actor"].log_std is not None:
        out["actor/log_std"] = tree["actor"].log_std
    return out


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adam = state.opt_state[1]
    out = named(agent, state.networks)
    out.update({f"adam/mu/{k}": v for k, v in named(agent, adam.mu).items()})
    out.update({f"adam/nu/{k}": v for k, v in named(agent, adam.nu).items()})
    out["adam/count"] = adam.count
    for name, moments in (("obs", state.obs_moments), ("return", state.return_moments)):
        out.update({f"{name}_moments/{k}": v for k, v in moments._asdict().items()})
    out["running_return"] = state.running_return
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    networks = _unnamed(agent, weights, "")
    clip, adam, schedule = agent.optimizer.init(networks)
    count = jnp.array(weights["adam/count"], jnp.int32)
    mu, nu = (_unnamed(agent, weights, f"adam/{moment}/") for moment in ("mu", "nu"))
    adam = adam._replace(count=count, mu=mu, nu=nu)
    schedule = schedule._replace(count=jnp.array(count))
    return State(
        networks,
        (clip, adam, schedule),
        *(
            RunningStats(
                *(jnp.array(weights[f"{m}_moments/{k}"], agent.dtype) for k in RunningStats._fields)
            )
            for m in ("obs", "return")
        ),
        jnp.array(weights["running_return"], agent.dtype),
    )


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, agent.dtype).reshape(len(obs), -1)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _cast(x: Array, dtype: str) -> Array:
    return jnp.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x)


def _statistics(state: State) -> tuple[RunningStats, RunningStats, Array]:
    return state.obs_moments, state.return_moments, state.running_return


def _unnamed(agent: AgentDef, weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
    spec, config, dtype, _ = agent
    args = (spec, config.hidden_sizes, config.activation, dtype)

    def array(name):
        return jnp.array(weights[prefix + name], dtype)

    networks = {"actor": Policy(*args), "critic": Value(*args)}
    for name, network in networks.items():
        layers = range(len(network.mlp.layers))
        values = [array(f"{name}/{i}/{part}") for i in layers for part in ("kernel", "bias")]
        network = eqx.tree_at(_layers, network, values)
        if name == "actor" and not spec.discrete:
            network = eqx.tree_at(lambda p: p.log_std, network, array("actor/log_std"))
        networks[name] = network
    return networks


def _layers(network: Policy | Value) -> list[Array]:
    return [x for layer in network.mlp.layers for x in (layer.kernel, layer.bias)]
