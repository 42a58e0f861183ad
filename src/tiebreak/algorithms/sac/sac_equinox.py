"""SAC in Equinox; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

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
from tiebreak.frameworks.jax.equinox import Critic, SquashedPolicy
from tiebreak.frameworks.jax.trees import filled
from tiebreak.frameworks.jax.trees import named as names_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    optimizers: dict[str, optax.GradientTransformation]


class State(eqx.Module):
    """What training changes; dictionaries by optimizer: critic, actor, alpha."""

    params: dict[str, Any]
    target: dict[str, Any]
    opt_state: dict[str, Any]
    obs_moments: RunningStats


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
    raw = state.params["actor"]["actor"](obs).sample(jnp.asarray(noise, agent.dtype))  # D1
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
    policy, targets = state.params["actor"]["actor"], _critics(state.target)
    log_alpha = state.params["alpha"]["log_alpha"]
    target = critic_target(policy, targets, log_alpha, batch, noise)

    def loss(params):
        terms = critic_loss(_critics(params), batch, target)
        return terms.loss, terms

    grads, terms = eqx.filter_grad(loss, has_aux=True)(state.params["critic"])
    return terms, {"critic": grads}


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    critics = _critics(state.params["critic"])
    log_alpha = state.params["alpha"]["log_alpha"]

    def loss(params):
        terms = actor_loss(params["actor"], critics, log_alpha, batch, noise)
        return terms.loss, terms

    grads, terms = eqx.filter_grad(loss, has_aux=True)(state.params["actor"])
    return terms, {"actor": grads}


def alpha_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, Any]]:
    """Loss terms and the raw gradient in log α; a batch of features, without axis U."""
    policy = state.params["actor"]["actor"]

    def loss(params):
        terms = alpha_loss(policy, params["log_alpha"], batch, noise, agent.config)
        return terms.loss, terms

    grads, terms = eqx.filter_grad(loss, has_aux=True)(state.params["alpha"])
    return terms, {"alpha": grads}


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """Critics, actor, α, targets, in this order: each sees what those before have become."""
    critic, grads = critic_gradients(agent, state, batch, noise)  # D7
    state, critic_norm = _apply(agent, state, grads)
    actor, grads = actor_gradients(agent, state, batch, noise)
    state, actor_norm = _apply(agent, state, grads)
    alpha, grads = alpha_gradients(agent, state, batch, noise)
    state, _ = _apply(agent, state, grads)
    target = optax.incremental_update(state.params["critic"], state.target, agent.config.tau)  # D9
    metrics = Metrics(*critic, *actor, *alpha, critic_norm, actor_norm)
    return replace(state, target=target), metrics


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, row):
        return update(agent, state, *row)

    data = prepare(agent, state, batch)
    noise = Noise(*(jnp.asarray(x, agent.dtype) for x in noise))
    state, metrics = ops.scan(body, state, (data, noise))
    if agent.config.normalize_obs:
        rows = jnp.asarray(batch.obs, agent.dtype).reshape(-1, agent.spec.observation_size)
        state = replace(state, obs_moments=ops.merge_stats(state.obs_moments, rows))  # D11
    return state, jax.tree.map(jnp.mean, metrics)


def named(agent: AgentDef, tree: dict[str, Any]) -> dict[str, Array]:
    """Trees shaped like the weights, by optimizer -> canonical names."""
    del agent
    return {k: v for part in tree.values() for k, v in names_of(part).items()}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adams = {name: state.opt_state[name][1] for name in COUNTS}
    trees = {
        "": state.params,
        "target/": {"critic": state.target},
        "adam/mu/": {name: adam.mu for name, adam in adams.items()},
        "adam/nu/": {name: adam.nu for name, adam in adams.items()},
    }
    out = {p + k: v for p, tree in trees.items() for k, v in named(agent, tree).items()}
    out.update({count: adams[name].count for name, count in COUNTS.items()})
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    zeros, params, opt_state = _zeros(agent), {}, {}

    def tree(name, prefix):
        return filled(zeros[name], weights, prefix, agent.dtype)

    for name, count in COUNTS.items():
        params[name] = tree(name, "")
        clip, adam, schedule = agent.optimizers[name].init(params[name])
        adam = adam._replace(
            count=jnp.array(weights[count], jnp.int32),
            mu=tree(name, "adam/mu/"),
            nu=tree(name, "adam/nu/"),
        )
        schedule = schedule._replace(count=jnp.array(weights[count], jnp.int32))
        opt_state[name] = clip, adam, schedule
    moments = (jnp.array(weights[f"obs_moments/{k}"], agent.dtype) for k in RunningStats._fields)
    return State(params, tree("critic", "target/"), opt_state, RunningStats(*moments))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _critics(networks: Mapping[str, Critic]) -> tuple[Critic, ...]:
    return tuple(networks[name] for name in CRITICS)


def _apply(agent: AgentDef, state: State, grads: dict[str, Any]) -> tuple[State, Array]:
    """A step of the one optimizer that `grads` is for; the norm before clipping."""
    ((name, tree),) = grads.items()
    params = state.params[name]
    changes, opt_state = agent.optimizers[name].update(tree, state.opt_state[name], params)
    params = {**state.params, name: eqx.apply_updates(params, changes)}
    state = replace(state, params=params, opt_state={**state.opt_state, name: opt_state})
    return state, ops.global_norm(tree)


def _zeros(agent: AgentDef) -> dict[str, Any]:
    """What a state's weights look like, by optimizer."""
    spec, config, dtype, _ = agent
    sizes, activation = config.hidden_sizes, config.activation
    return {
        "critic": {name: Critic(spec, sizes, activation, dtype) for name in CRITICS},
        "actor": {"actor": SquashedPolicy(spec, sizes, activation, config.log_std_range, dtype)},
        "alpha": {"log_alpha": jnp.zeros((), dtype)},
    }
