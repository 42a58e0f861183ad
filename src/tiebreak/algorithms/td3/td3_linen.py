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
from tiebreak.core.types import Agent, Array, Build, EnvSpec, Moments
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.linen import Critic, DeterministicPolicy
from tiebreak.frameworks.jax.trees import filled
from tiebreak.frameworks.jax.trees import named as names_of


class Static(NamedTuple):
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
    obs_moments: Moments


def make_static(spec: EnvSpec, config: Config, build: Build) -> Static:
    """Networks and optimizers for a spec; no weights."""
    sizes = config.hidden_sizes, config.activation, build.dtype
    make = partial(ops.make_optimizer, eps=config.adam_eps, max_grad_norm=config.max_grad_norm)
    rates = config.actor_lr, config.critic_lr
    optimizers = (make(config.optimizer, lambda count, lr=lr: lr) for lr in rates)  # D6
    networks = DeterministicPolicy(spec, *sizes), Critic(*sizes)
    return Static(spec, config, build.dtype, *networks, *optimizers)


def init(static: Static, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(static, initial_weights(static.spec, static.config, seed))  # D8


def act(static: Static, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(static, state, obs.reshape(len(obs), -1))
    noise = static.config.exploration_noise * jnp.asarray(noise, static.dtype)
    raw = jnp.clip(static.policy.apply(state.actor["actor"], obs) + noise, -1.0, 1.0)  # D1
    low, high = (jnp.asarray(b, static.dtype) for b in static.spec.bounds)
    return Act(ops.fit_to_bounds(raw, low, high), raw)


def prepare(static: Static, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(static, state, x) for x in (batch.obs, batch.next_obs))
    others = batch.action, batch.reward, batch.discount
    return Batch(obs, *(jnp.asarray(x, static.dtype) for x in others), next_obs)


def critic_gradients(
    static: Static, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, Any]:
    """Terms and the raw gradient in both critics; a batch of features, without axis U."""
    policy, smoothing = _policy(static, state.target), jnp.asarray(noise.target, static.dtype)
    target = td3_target(policy, _critics(static, state.target), batch, smoothing, static.config)

    def loss(critics):
        terms = critic_loss(_critics(static, critics), batch, target)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.critics)
    return terms, grads


def actor_gradients(
    static: Static, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, Any]:
    """Terms and the raw gradient in the actor; a batch of features, without axis U."""
    del noise
    critic, _ = _critics(static, state.critics)

    def loss(actor):
        terms = actor_loss(_policy(static, actor), critic, batch)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.actor)
    return terms, grads


def update_critics(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, tuple]:
    """One gradient step of both critics; their terms and gradient norm."""
    terms, grads = critic_gradients(static, state, batch, noise)
    changes, critic_opt = static.critic_optimizer.update(grads, state.critic_opt, state.critics)
    critics = optax.apply_updates(state.critics, changes)
    state = state._replace(critics=critics, critic_opt=critic_opt)
    return state, (*terms, ops.global_norm(grads))


def update_actor(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, tuple]:
    """One gradient step of the actor; all targets follow."""
    terms, grads = actor_gradients(static, state, batch, noise)
    changes, actor_opt = static.actor_optimizer.update(grads, state.actor_opt, state.actor)
    actor, tau = optax.apply_updates(state.actor, changes), static.config.tau
    networks = {**actor, **state.critics}
    target = jax.tree.map(lambda new, old: old + tau * (new - old), networks, state.target)  # D5
    state = state._replace(actor=actor, target=target, actor_opt=actor_opt)
    return state, (*terms, ops.global_norm(grads))


def update(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    rows, seen = (batch, noise), []
    for u in range(static.config.policy_delay):  # D5
        row = jax.tree.map(lambda x, u=u: x[u], rows)
        state, terms = update_critics(static, state, *row)
        seen.append(terms)
    state, terms = update_actor(static, state, *row)  # D4
    means = (sum(column) / len(column) for column in zip(*seen, strict=True))
    return state, Metrics(*means, *terms)


def step(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All groups of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, group):
        return update(static, state, *group)

    data, delay = prepare(static, state, batch), static.config.policy_delay
    groups = jax.tree.map(lambda x: x.reshape(-1, delay, *x.shape[1:]), (data, noise))
    state, metrics = ops.scan(body, state, groups)
    if static.config.normalize_obs:
        rows = jnp.asarray(batch.obs, static.dtype).reshape(-1, static.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_moments(state.obs_moments, rows))  # D7
    return state, jax.tree.map(jnp.mean, metrics)


def named(static: Static, tree: Any) -> dict[str, Array]:
    """A tree shaped like the weights, or a part of it -> canonical names."""
    del static
    return names_of(tree)


def dump(static: Static, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adams = state.actor_opt[1], state.critic_opt[1]
    out = named(static, {**state.actor, **state.critics})
    trees = [("target", state.target)]
    trees += [(f"adam/{k}", getattr(adam, k)) for adam in adams for k in ("mu", "nu")]
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(static, tree).items()})
    out["adam/actor_count"], out["adam/count"] = (adam.count for adam in adams)
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(static: Static, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    obs, action = (
        jnp.zeros((1, size), static.dtype)
        for size in (static.spec.observation_size, static.spec.action_size)
    )
    key = jax.random.key(0)
    actor = {"actor": jax.eval_shape(static.policy.init, key, obs)}
    shapes = jax.eval_shape(static.critic.init, key, obs, action)
    critics = {"critic1": shapes, "critic2": shapes}
    networks = (filled(tree, weights, "", static.dtype) for tree in (actor, critics))
    target = filled({**actor, **critics}, weights, "target/", static.dtype)
    actor_opt = _opt_state(static.actor_optimizer, actor, weights, "adam/actor_count", static.dtype)
    critic_opt = _opt_state(static.critic_optimizer, critics, weights, "adam/count", static.dtype)
    moments = (jnp.array(weights[f"obs_moments/{k}"], static.dtype) for k in Moments._fields)
    return State(*networks, target, actor_opt, critic_opt, Moments(*moments))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    static = make_static(spec, config, build)
    return Agent(*(partial(fn, static) for fn in (init, act, step, dump, load)))


def _features(static: Static, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, static.dtype)
    return ops.normalize(obs, state.obs_moments) if static.config.normalize_obs else obs


def _policy(static: Static, params: Mapping[str, Any]) -> Callable:
    return partial(static.policy.apply, params["actor"])


def _critics(static: Static, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    return tuple(partial(static.critic.apply, params[k]) for k in ("critic1", "critic2"))


def _opt_state(optimizer: Any, like: Any, weights: Mapping, count: str, dtype: str) -> Any:
    """The state of one optimizer; `like` has the shapes of what it trains."""
    mu, nu = (filled(like, weights, f"adam/{k}/", dtype) for k in ("mu", "nu"))
    clip, adam, schedule = optimizer.init(mu)
    adam = adam._replace(count=jnp.array(weights[count], jnp.int32), mu=mu, nu=nu)
    return clip, adam, schedule._replace(count=jnp.array(weights[count], jnp.int32))
