"""FastTD3 in Flax Linen; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

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
from tiebreak.frameworks.jax.linen import Critic, DeterministicPolicy
from tiebreak.frameworks.jax.trees import filled
from tiebreak.frameworks.jax.trees import named as names_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    actor: DeterministicPolicy
    critic: Critic
    optimizers: dict[str, optax.GradientTransformation]


class State(NamedTuple):
    """What training changes; dictionaries by optimizer: critic, actor."""

    params: dict[str, Any]
    target: dict[str, Any]
    opt_state: dict[str, Any]
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks and optimizers for a spec; no weights."""
    kind = config.activation, build.network_dtype or build.dtype  # D10
    actor = DeterministicPolicy(actor_spec(spec), config.actor_sizes, *kind)
    critic = Critic(config.critic_sizes, *kind, config.num_atoms)  # D3
    optimizers = make_optimizers(config, ops.make_optimizer)  # D7
    return AgentDef(spec, config, build.dtype, actor, critic, optimizers)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D8


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] in units of actions -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    greedy = _policy(agent, state.params["actor"])(obs)
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
    policy, targets = _policy(agent, state.params["actor"]), _critics(agent, state.target)
    target = target_distribution(policy, targets, batch, noise, agent.config)

    def loss(params):
        terms = critic_loss(_critics(agent, params), batch, target, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["critic"])
    return terms, {"critic": grads}


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    critics = _critics(agent, state.params["critic"])

    def loss(params):
        terms = actor_loss(_policy(agent, params), critics, batch, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["actor"])
    return terms, {"actor": grads}


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    tau, seen = agent.config.tau, []
    for u in range(agent.config.policy_delay):  # D6
        row = jax.tree.map(lambda x, u=u: x[u], (batch, noise))
        terms, grads = critic_gradients(agent, state, *row)
        state, norm = _apply(agent, state, grads)
        target = optax.incremental_update(state.params["critic"], state.target, tau)  # D6
        state = state._replace(target=target)
        seen.append((*terms, norm))
    terms, grads = actor_gradients(agent, state, *row)  # D5
    state, norm = _apply(agent, state, grads)
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
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, rows))  # D9
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
    shapes, params, opt_state = _shapes(agent), {}, {}

    def tree(name, prefix):
        return filled(shapes[name], weights, prefix, agent.dtype)

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


def _policy(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Features -> actions, from what the actor may see, in the working precision."""

    def call(obs):
        seen = obs[:, : agent.spec.visible_size]  # D9
        return agent.actor.apply(params["actor"], seen).astype(agent.dtype)  # D10

    return call


def _critics(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    """Features and actions -> logits, in the working precision."""

    def call(name, obs, action):
        return agent.critic.apply(params[name], obs, action).astype(agent.dtype)  # D10

    return tuple(partial(call, name) for name in CRITICS)


def _apply(agent: AgentDef, state: State, grads: dict[str, Any]) -> tuple[State, Array]:
    """A step of the one optimizer that `grads` is for; the norm before clipping."""
    ((name, tree),) = grads.items()
    params = state.params[name]
    changes, opt_state = agent.optimizers[name].update(tree, state.opt_state[name], params)
    params = {**state.params, name: optax.apply_updates(params, changes)}
    state = state._replace(params=params, opt_state={**state.opt_state, name: opt_state})
    return state, ops.global_norm(tree)


def _shapes(agent: AgentDef) -> dict[str, Any]:
    """What a state's weights look like, by optimizer."""
    key, spec, dtype = jax.random.key(0), agent.spec, agent.dtype
    sizes = spec.visible_size, spec.observation_size, spec.action_size
    seen, obs, action = (jnp.zeros((1, n), dtype) for n in sizes)
    critic = jax.eval_shape(agent.critic.init, key, obs, action)
    return {
        "critic": dict.fromkeys(CRITICS, critic),
        "actor": {"actor": jax.eval_shape(agent.actor.init, key, seen)},
    }
