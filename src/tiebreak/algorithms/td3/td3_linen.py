"""TD3 in Flax Linen; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import (
    Act,
    ActorTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    initial_weights,
)
from tiebreak.algorithms.td3.losses_jax import actor_loss, critic_loss, td3_target
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
    policy: DeterministicPolicy
    critic: Critic
    actor_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation


class State(NamedTuple):
    """What training changes."""

    actor: dict[str, Any]
    critics: dict[str, Any]
    target: dict[str, Any]
    actor_opt: Any
    critic_opt: Any
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks and optimizers for a spec; no weights."""
    sizes = config.hidden_sizes, config.activation, build.dtype
    make = partial(ops.make_optimizer, eps=config.adam_eps, max_grad_norm=config.max_grad_norm)
    rates = config.actor_lr, config.critic_lr
    optimizers = (make(config.optimizer, lambda count, lr=lr: lr) for lr in rates)  # D6
    networks = DeterministicPolicy(spec, *sizes), Critic(*sizes)
    return AgentDef(spec, config, build.dtype, *networks, *optimizers)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D8


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    noise = agent.config.exploration_noise * jnp.asarray(noise, agent.dtype)
    raw = jnp.clip(agent.policy.apply(state.actor["actor"], obs) + noise, -1.0, 1.0)  # D1
    low, high = (jnp.asarray(b, agent.dtype) for b in agent.spec.bounds)
    return Act(ops.rescale_action(raw, low, high), raw)


def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    others = batch.action, batch.reward, batch.discount
    return Batch(obs, *(jnp.asarray(x, agent.dtype) for x in others), next_obs)


def critic_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, Any]:
    """LossTerms and the raw gradient in both critics; a batch of features, without axis U."""
    policy, smoothing = _policy(agent, state.target), jnp.asarray(noise.target, agent.dtype)
    target = td3_target(policy, _critics(agent, state.target), batch, smoothing, agent.config)

    def loss(critics):
        terms = critic_loss(_critics(agent, critics), batch, target)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.critics)
    return terms, grads


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, Any]:
    """LossTerms and the raw gradient in the actor; a batch of features, without axis U."""
    del noise
    critic, _ = _critics(agent, state.critics)

    def loss(actor):
        terms = actor_loss(_policy(agent, actor), critic, batch)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.actor)
    return terms, grads


def update_critics(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[State, tuple]:
    """One gradient step of both critics; their terms and gradient norm."""
    terms, grads = critic_gradients(agent, state, batch, noise)
    changes, critic_opt = agent.critic_optimizer.update(grads, state.critic_opt, state.critics)
    critics = optax.apply_updates(state.critics, changes)
    state = state._replace(critics=critics, critic_opt=critic_opt)
    return state, (*terms, ops.global_norm(grads))


def update_actor(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, tuple]:
    """One gradient step of the actor; all targets follow."""
    terms, grads = actor_gradients(agent, state, batch, noise)
    changes, actor_opt = agent.actor_optimizer.update(grads, state.actor_opt, state.actor)
    actor, tau = optax.apply_updates(state.actor, changes), agent.config.tau
    networks = {**actor, **state.critics}
    target = jax.tree.map(lambda new, old: old + tau * (new - old), networks, state.target)  # D5
    state = state._replace(actor=actor, target=target, actor_opt=actor_opt)
    return state, (*terms, ops.global_norm(grads))


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    rows, seen = (batch, noise), []
    for u in range(agent.config.policy_delay):  # D5
        row = jax.tree.map(lambda x, u=u: x[u], rows)
        state, terms = update_critics(agent, state, *row)
        seen.append(terms)
    state, terms = update_actor(agent, state, *row)  # D4
    means = (sum(column) / len(column) for column in zip(*seen, strict=True))
    return state, Metrics(*means, *terms)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All groups of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, group):
        return update(agent, state, *group)

    data, delay = prepare(agent, state, batch), agent.config.policy_delay
    groups = jax.tree.map(lambda x: x.reshape(-1, delay, *x.shape[1:]), (data, noise))
    state, metrics = ops.scan(body, state, groups)
    if agent.config.normalize_obs:
        rows = jnp.asarray(batch.obs, agent.dtype).reshape(-1, agent.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, rows))  # D7
    return state, jax.tree.map(jnp.mean, metrics)


def named(agent: AgentDef, tree: Any) -> dict[str, Array]:
    """A tree shaped like the weights, or a part of it -> canonical names."""
    del agent
    return names_of(tree)


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adams = state.actor_opt[1], state.critic_opt[1]
    out = named(agent, {**state.actor, **state.critics})
    trees = [("target", state.target)]
    trees += [(f"adam/{k}", getattr(adam, k)) for adam in adams for k in ("mu", "nu")]
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(agent, tree).items()})
    out["adam/actor_count"], out["adam/count"] = (adam.count for adam in adams)
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    obs, action = (
        jnp.zeros((1, size), agent.dtype)
        for size in (agent.spec.observation_size, agent.spec.action_size)
    )
    key = jax.random.key(0)
    actor = {"actor": jax.eval_shape(agent.policy.init, key, obs)}
    shapes = jax.eval_shape(agent.critic.init, key, obs, action)
    critics = {"critic1": shapes, "critic2": shapes}
    networks = (filled(tree, weights, "", agent.dtype) for tree in (actor, critics))
    target = filled({**actor, **critics}, weights, "target/", agent.dtype)
    actor_opt = _opt_state(agent.actor_optimizer, actor, weights, "adam/actor_count", agent.dtype)
    critic_opt = _opt_state(agent.critic_optimizer, critics, weights, "adam/count", agent.dtype)
    moments = (jnp.array(weights[f"obs_moments/{k}"], agent.dtype) for k in RunningStats._fields)
    return State(*networks, target, actor_opt, critic_opt, RunningStats(*moments))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _policy(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    return partial(agent.policy.apply, params["actor"])


def _critics(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    return tuple(partial(agent.critic.apply, params[k]) for k in ("critic1", "critic2"))


def _opt_state(optimizer: Any, like: Any, weights: Mapping, count: str, dtype: str) -> Any:
    """The state of one optimizer; `like` has the shapes of what it trains."""
    mu, nu = (filled(like, weights, f"adam/{k}/", dtype) for k in ("mu", "nu"))
    clip, adam, schedule = optimizer.init(mu)
    adam = adam._replace(count=jnp.array(weights[count], jnp.int32), mu=mu, nu=nu)
    return clip, adam, schedule._replace(count=jnp.array(weights[count], jnp.int32))
