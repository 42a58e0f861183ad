"""DQN in Flax Linen; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Act, Batch, LossTerms, Metrics, Noise, initial_weights
from tiebreak.algorithms.dqn.losses_jax import dqn_loss, dqn_target, epsilon
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.linen import ActionValues
from tiebreak.frameworks.jax.trees import filled
from tiebreak.frameworks.jax.trees import named as names_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    q: ActionValues
    optimizer: optax.GradientTransformation


class State(NamedTuple):
    """What training changes."""

    params: dict[str, Any]
    target: dict[str, Any]
    opt_state: Any
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Network and optimizer for a spec; no weights."""
    q = ActionValues(spec, config.hidden_sizes, config.activation, build.dtype)
    optimizer = ops.make_optimizer(
        config.optimizer, lambda count: config.learning_rate, config.adam_eps, config.max_grad_norm
    )  # D5
    return AgentDef(spec, config, build.dtype, q, optimizer)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D6)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D6


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, 2] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    q = agent.q.apply(state.params["q"], obs)
    explore = noise[:, 0] > 1.0 - epsilon(agent.config, state.opt_state[1].count)  # D1
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
    q, target_q = (partial(agent.q.apply, p["q"]) for p in (state.params, state.target))
    target = dqn_target(q, target_q, batch, agent.config)

    def loss(params):
        terms = dqn_loss(partial(agent.q.apply, params["q"]), batch, target)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params)
    return terms, grads


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One gradient step, and the copy into the target network when it is due."""
    terms, grads = gradients(agent, state, batch, noise)
    changes, opt_state = agent.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, changes)
    due = opt_state[1].count % agent.config.target_period == 0  # D4
    target = ops.periodic_update(due, params, state.target)
    state = state._replace(params=params, target=target, opt_state=opt_state)
    return state, Metrics(*terms, grad_norm=ops.global_norm(grads))


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
    adam = state.opt_state[1]
    out = named(agent, state.params)
    trees = ("target", state.target), ("adam/mu", adam.mu), ("adam/nu", adam.nu)
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(agent, tree).items()})
    out["adam/count"] = adam.count
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    obs = jnp.zeros((1, agent.spec.observation_size), agent.dtype)
    shapes = {"q": jax.eval_shape(agent.q.init, jax.random.key(0), obs)}

    def tree(prefix):
        return filled(shapes, weights, prefix, agent.dtype)

    params, count = tree(""), jnp.array(weights["adam/count"], jnp.int32)
    clip, adam, schedule = agent.optimizer.init(params)
    adam = adam._replace(count=count, mu=tree("adam/mu/"), nu=tree("adam/nu/"))
    moments = (jnp.array(weights[f"obs_moments/{k}"], agent.dtype) for k in RunningStats._fields)
    opt_state = clip, adam, schedule._replace(count=jnp.array(count))
    return State(params, tree("target/"), opt_state, RunningStats(*moments))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs
