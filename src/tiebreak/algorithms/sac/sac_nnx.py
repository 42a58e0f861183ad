"""SAC in Flax NNX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

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
from tiebreak.algorithms.sac.losses_jax import actor_loss, alpha_loss, critic_loss, critic_target
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.nnx import Critic, SquashedPolicy
from tiebreak.frameworks.jax.trees import name_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    optimizers: dict[str, optax.GradientTransformation]


class State(nnx.Module):
    """What training changes, by optimizer: critic, actor, alpha; functions may do so in place."""

    def __init__(self, agent: AgentDef):
        spec, config, dtype, optimizers = agent
        sizes, activation = config.hidden_sizes, config.activation
        log_std, rngs = config.log_std_range, nnx.Rngs(0)
        critics, self.target = (
            nnx.Dict({name: Critic(spec, sizes, activation, dtype, rngs) for name in CRITICS})
            for _ in range(2)
        )
        actor = SquashedPolicy(spec, sizes, activation, log_std, dtype, rngs)
        alpha = nnx.Dict(log_alpha=nnx.Param(jnp.zeros((), dtype)))
        self.params = nnx.Dict(critic=critics, actor=nnx.Dict(actor=actor), alpha=alpha)
        self.optimizers = nnx.Dict(
            {k: nnx.Optimizer(self.params[k], tx, wrt=nnx.Param) for k, tx in optimizers.items()}
        )
        size = spec.observation_size
        self.obs_moments = Statistic(RunningStats(*(jnp.zeros(s, dtype) for s in ((), size, size))))


class Statistic(nnx.Variable):
    """Part of the state that is neither trained nor the optimizers'."""


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """The optimizers for a spec; no weights."""
    optimizers = make_optimizers(config, ops.make_optimizer)  # D8
    return AgentDef(spec, config, build.dtype, optimizers)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D10)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D10


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    raw = state.params.actor.actor(obs).sample(jnp.asarray(noise, agent.dtype))  # D1
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
    policy, targets = state.params.actor.actor, _critics(state.target)
    log_alpha = state.params.alpha.log_alpha[...]
    target = critic_target(policy, targets, log_alpha, batch, noise)

    def loss(params):
        terms = critic_loss(_critics(params), batch, target)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.params.critic)
    return terms, {"critic": grads}


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    critics = _critics(state.params.critic)
    log_alpha = state.params.alpha.log_alpha[...]

    def loss(params):
        terms = actor_loss(params.actor, critics, log_alpha, batch, noise)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.params.actor)
    return terms, {"actor": grads}


def alpha_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, Any]]:
    """Loss terms and the raw gradient in log α; a batch of features, without axis U."""
    policy = state.params.actor.actor

    def loss(params):
        terms = alpha_loss(policy, params.log_alpha[...], batch, noise, agent.config)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.params.alpha)
    return terms, {"alpha": grads}


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """Critics, actor, α, targets, in this order: each sees what those before have become."""
    critic, grads = critic_gradients(agent, state, batch, noise)  # D7
    critic_norm = _apply(state, grads)
    actor, grads = actor_gradients(agent, state, batch, noise)
    actor_norm = _apply(state, grads)
    alpha, grads = alpha_gradients(agent, state, batch, noise)
    _apply(state, grads)
    new, old = (nnx.state(tree, nnx.Param) for tree in (state.params.critic, state.target))
    nnx.update(state.target, optax.incremental_update(new, old, agent.config.tau))  # D9
    return state, Metrics(*critic, *actor, *alpha, critic_norm, actor_norm)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, row):
        return update(agent, state, *row)

    data = prepare(agent, state, batch)
    noise = Noise(*(jnp.asarray(x, agent.dtype) for x in noise))
    state, metrics = ops.scan(body, state, (data, noise))
    if agent.config.normalize_obs:
        rows = jnp.asarray(batch.obs, agent.dtype).reshape(-1, agent.spec.observation_size)
        moments = ops.merge_stats(state.obs_moments.get_value(), rows)  # D11
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


def _critics(networks: nnx.Dict) -> tuple[Critic, ...]:
    return tuple(networks[name] for name in CRITICS)


def _apply(state: State, grads: dict[str, Any]) -> Array:
    """A step of the one optimizer that `grads` is for; the norm before clipping."""
    ((name, tree),) = grads.items()
    state.optimizers[name].update(state.params[name], tree)
    return ops.global_norm(nnx.as_pure(tree))


def _put(agent: AgentDef, tree: Any, weights: Mapping[str, np.ndarray], prefix: str) -> None:
    for path, variable in nnx.to_flat_state(tree):
        variable.set_value(jnp.array(weights[prefix + name_of(path)], agent.dtype))
