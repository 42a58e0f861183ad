"""MPO in Flax Linen; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

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
from tiebreak.frameworks.jax.linen import LayerNormCritic, LayerNormPolicy
from tiebreak.frameworks.jax.trees import filled
from tiebreak.frameworks.jax.trees import named as names_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    policy: LayerNormPolicy
    critic: LayerNormCritic
    optimizers: dict[str, optax.GradientTransformation]


class State(NamedTuple):
    """What training changes."""

    params: dict[str, Any]
    target: dict[str, Any]
    opt_states: dict[str, Any]
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks and optimizers for a spec; no weights."""
    policy = LayerNormPolicy(spec, config.hidden_sizes, config.init_std, build.dtype)
    critic = LayerNormCritic(config.critic_sizes, build.dtype)
    optimizers = {
        group: ops.make_optimizer(config.optimizer, lambda count, r=rate: r, config.adam_eps, clip)
        for group, (rate, clip) in config.rates.items()
    }  # D9
    return AgentDef(spec, config, build.dtype, policy, critic, optimizers)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D11)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D11


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    policy = agent.policy.apply(state.params["actor"], obs)
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
    samples = draw_samples(*_networks(agent, state.target), batch.next_obs, drawn)

    def loss(params):
        networks = *_networks(agent, params), params["dual"]
        terms = mpo_loss(*networks, samples, batch, agent.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params)
    return terms, grads


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One step of each optimizer, and the copies into the target networks when they are due."""
    terms, grads = gradients(agent, state, batch, noise)
    params, opt_states, norms = {}, {}, {}
    for group, names in agent.config.groups.items():
        part, old = ({k: tree[k] for k in names} for tree in (grads, state.params))
        opt_state, norms[group] = state.opt_states[group], ops.global_norm(part)
        changes, opt_states[group] = agent.optimizers[group].update(part, opt_state, old)
        params.update(optax.apply_updates(old, changes))
    params["dual"] = jax.tree.map(lambda x: jnp.maximum(x, LEAST_LOG), params["dual"])  # D8
    due = opt_states["critic"][1].count % agent.config.target_period == 0  # D10
    new = {k: params[k] for k in state.target}
    target = jax.tree.map(lambda new, old: jnp.where(due, new, old), new, state.target)
    state = State(params, target, opt_states, state.obs_moments)
    return state, Metrics(*terms, norms["actor"], norms["critic"])


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, row):
        return update(agent, state, *row)

    data = prepare(agent, state, batch)
    state, metrics = ops.scan(body, state, (data, noise))
    if agent.config.normalize_obs:
        rows = jnp.asarray(batch.obs, agent.dtype).reshape(-1, agent.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, rows))  # D7
    return state, jax.tree.map(jnp.mean, metrics)


def named(agent: AgentDef, tree: Any) -> dict[str, Array]:
    """A tree shaped like the weights -> canonical names."""
    del agent
    return names_of(tree)


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    trees = [("", state.params), ("target/", state.target)]
    for _, adam, _ in state.opt_states.values():
        trees += [("adam/mu/", adam.mu), ("adam/nu/", adam.nu)]
    out = {prefix + k: v for prefix, tree in trees for k, v in named(agent, tree).items()}
    out["adam/count"] = state.opt_states["critic"][1].count
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    shapes = _shapes(agent)

    def tree(prefix, names):
        return filled({k: shapes[k] for k in names}, weights, prefix, agent.dtype)

    opt_states = {}
    for group, names in agent.config.groups.items():
        clip, adam, schedule = agent.optimizers[group].init(tree("", names))
        moving = {k: tree(f"adam/{k}/", names) for k in ("mu", "nu")}
        counts = (jnp.array(weights["adam/count"], jnp.int32) for _ in range(2))
        adam = adam._replace(count=next(counts), **moving)
        opt_states[group] = clip, adam, schedule._replace(count=next(counts))
    moments = (jnp.array(weights[f"obs_moments/{k}"], agent.dtype) for k in RunningStats._fields)
    target = tree("target/", [k for k in shapes if k != "dual"])
    return State(tree("", shapes), target, opt_states, RunningStats(*moments))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _networks(agent: AgentDef, params: dict[str, Any]) -> tuple:
    """Policy and critics as functions of their inputs."""
    critics = [partial(agent.critic.apply, params[name]) for name in agent.config.critics]
    return partial(agent.policy.apply, params["actor"]), critics


def _shapes(agent: AgentDef) -> dict[str, Any]:
    """Trees shaped like what is trained."""
    sizes = agent.spec.observation_size, agent.spec.action_size
    obs, action = (jnp.zeros((1, size), agent.dtype) for size in sizes)
    key = jax.random.key(0)
    out = {"actor": jax.eval_shape(agent.policy.init, key, obs)}
    for name in agent.config.critics:
        out[name] = jax.eval_shape(agent.critic.init, key, obs, action)
    return {**out, "dual": initial_dual(agent.spec, agent.config)}
