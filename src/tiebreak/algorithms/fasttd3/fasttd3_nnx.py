"""FastTD3 in Flax NNX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

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
from tiebreak.algorithms.fasttd3.losses_jax import actor_loss, critic_loss, target_distribution
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.nnx import Critic, DeterministicPolicy
from tiebreak.frameworks.jax.trees import name_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    network_dtype: str
    optimizers: dict[str, optax.GradientTransformation]


class State(nnx.Module):
    """What training changes, by optimizer: critic, actor; functions may do so in place."""

    def __init__(self, agent: AgentDef):
        spec, config, dtype, network_dtype, optimizers = agent
        kind = config.activation, network_dtype, nnx.Rngs(0)  # D10
        critic = partial(Critic, spec, config.critic_sizes, *kind, config.num_atoms)  # D3
        critics, self.target = (nnx.Dict({name: critic() for name in CRITICS}) for _ in range(2))
        actor = DeterministicPolicy(actor_spec(spec), config.actor_sizes, *kind)
        self.params = nnx.Dict(critic=critics, actor=nnx.Dict(actor=actor))
        self.optimizers = nnx.Dict(
            {k: nnx.Optimizer(self.params[k], tx, wrt=nnx.Param) for k, tx in optimizers.items()}
        )
        size = spec.observation_size
        self.obs_moments = Statistic(RunningStats(*(jnp.zeros(s, dtype) for s in ((), size, size))))


class Statistic(nnx.Variable):
    """Part of the state that is neither trained nor the optimizers'."""


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """The optimizers for a spec; no weights."""
    optimizers = make_optimizers(config, ops.make_optimizer)  # D7
    return AgentDef(spec, config, build.dtype, build.network_dtype or build.dtype, optimizers)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D8


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] in units of actions -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    greedy = _policy(agent, state.params.actor)(obs)
    raw = jnp.clip(greedy + jnp.asarray(noise, agent.dtype), -1.0, 1.0)  # D1
    low, high = (jnp.asarray(b, agent.dtype) for b in agent.spec.bounds)
    return Act(ops.rescale_action(raw, low, high), raw)


def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    batch = Batch(*(jnp.asarray(x, agent.dtype) for x in batch))
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    return batch._replace(obs=obs, next_obs=next_obs)


def critic_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Any]]:
    """Loss terms and the critics' raw gradient; a batch of features, without axis U."""
    policy, targets = _policy(agent, state.params.actor), _critics(agent, state.target)
    target = target_distribution(policy, targets, batch, noise, agent.config)

    def loss(params):
        terms = critic_loss(_critics(agent, params), batch, target, agent.config)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.params.critic)
    return terms, {"critic": grads}


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    critics = _critics(agent, state.params.critic)

    def loss(params):
        terms = actor_loss(_policy(agent, params), critics, batch, agent.config)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.params.actor)
    return terms, {"actor": grads}


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    tau, seen = agent.config.tau, []
    for u in range(agent.config.policy_delay):  # D6
        row = jax.tree.map(lambda x, u=u: x[u], (batch, noise))
        terms, grads = critic_gradients(agent, state, *row)
        norm = _apply(state, grads)
        new, old = (nnx.state(tree, nnx.Param) for tree in (state.params.critic, state.target))
        nnx.update(state.target, optax.incremental_update(new, old, tau))  # D6
        seen.append((*terms, norm))
    terms, grads = actor_gradients(agent, state, *row)  # D5
    norm = _apply(state, grads)
    means = (sum(column) / len(column) for column in zip(*seen, strict=True))
    return state, Metrics(*means, *terms, norm)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All groups of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, group):
        return update(agent, state, *group)

    data, delay = prepare(agent, state, batch), agent.config.policy_delay
    noise = Noise(*(jnp.asarray(x, agent.dtype) for x in noise))
    groups = jax.tree.map(lambda x: x.reshape(-1, delay, *x.shape[1:]), (data, noise))
    state, metrics = ops.scan(body, state, groups)
    if agent.config.normalize_obs:
        rows = jnp.asarray(batch.obs, agent.dtype).reshape(-1, agent.spec.observation_size)
        moments = ops.merge_stats(state.obs_moments.get_value(), rows)  # D9
        state.obs_moments.set_value(moments)
    return state, jax.tree.map(jnp.mean, metrics)


def named(agent: AgentDef, tree: dict[str, Any]) -> dict[str, Array]:
    """States shaped like the weights, by optimizer -> canonical names."""
    del agent
    flat = (item for part in tree.values() for item in nnx.to_flat_state(part))
    return {name_of(path): nnx.as_pure(x) for path, x in flat}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adams = {name: state.optimizers[name].opt_state[1] for name in COUNTS}
    trees = {
        "": {name: nnx.state(state.params[name], nnx.Param) for name in COUNTS},
        "target/": {"critic": nnx.state(state.target, nnx.Param)},
        "adam/mu/": {name: adam.mu for name, adam in adams.items()},
        "adam/nu/": {name: adam.nu for name, adam in adams.items()},
    }
    out = {p + k: v for p, tree in trees.items() for k, v in named(agent, tree).items()}
    out.update({count: adams[name].count[...] for name, count in COUNTS.items()})
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments.get_value()._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    state = State(agent)
    _put(agent, nnx.state(state.target, nnx.Param), weights, "target/")
    for name, count in COUNTS.items():
        _put(agent, nnx.state(state.params[name], nnx.Param), weights, "")
        _, adam, schedule = state.optimizers[name].opt_state
        _put(agent, adam.mu, weights, "adam/mu/")
        _put(agent, adam.nu, weights, "adam/nu/")
        for variable in (adam.count, schedule.count):
            variable[...] = jnp.array(weights[count], jnp.int32)
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


def _policy(agent: AgentDef, networks: nnx.Dict) -> Callable:
    """Features -> actions, from what the actor may see, in the working precision."""

    def call(obs):
        seen = obs[:, : agent.spec.visible_size]  # D9
        return networks.actor(seen).astype(agent.dtype)

    return call


def _critics(agent: AgentDef, networks: nnx.Dict) -> tuple[Callable, ...]:
    """Features and actions -> logits, in the working precision."""

    def call(name, obs, action):
        return networks[name](obs, action).astype(agent.dtype)

    return tuple(partial(call, name) for name in CRITICS)


def _apply(state: State, grads: dict[str, Any]) -> Array:
    """A step of the one optimizer that `grads` is for; the norm before clipping."""
    ((name, tree),) = grads.items()
    state.optimizers[name].update(state.params[name], tree)
    return ops.global_norm(nnx.as_pure(tree))


def _put(agent: AgentDef, tree: Any, weights: Mapping[str, np.ndarray], prefix: str) -> None:
    for path, variable in nnx.to_flat_state(tree):
        variable.set_value(jnp.array(weights[prefix + name_of(path)], agent.dtype))
