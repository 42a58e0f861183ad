"""SAC in Flax Linen; README.md is the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

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
from tiebreak.core.types import Agent, Array, Build, EnvSpec, Moments
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.linen import Critic, SquashedPolicy
from tiebreak.frameworks.jax.trees import filled
from tiebreak.frameworks.jax.trees import named as names_of


class Static(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    actor: SquashedPolicy
    critic: Critic
    optimizers: dict[str, optax.GradientTransformation]


class State(NamedTuple):
    """What training changes; dictionaries by optimizer: critic, actor, alpha."""

    params: dict[str, Any]
    target: dict[str, Any]
    opt_state: dict[str, Any]
    obs_moments: Moments


def make_static(spec: EnvSpec, config: Config, build: Build) -> Static:
    """Networks and optimizers for a spec; no weights."""
    sizes, log_std = config.hidden_sizes, config.log_std_range
    actor = SquashedPolicy(spec, sizes, config.activation, log_std, build.dtype)
    critic = Critic(sizes, config.activation, build.dtype)
    optimizers = make_optimizers(config, ops.make_optimizer)  # D8
    return Static(spec, config, build.dtype, actor, critic, optimizers)


def init(static: Static, seed: int) -> State:
    """A new state with the canonical initial weights (D10)."""
    return load(static, initial_weights(static.spec, static.config, seed))  # D10


def act(static: Static, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(static, state, obs.reshape(len(obs), -1))
    raw = _policy(static, state)(obs).sample(jnp.asarray(noise, static.dtype))  # D1
    low, high = (jnp.asarray(b, static.dtype) for b in static.spec.bounds)
    return Act(ops.fit_to_bounds(raw, low, high), raw)


def prepare(static: Static, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    batch = Batch(*(jnp.asarray(x, static.dtype) for x in batch))
    obs, next_obs = (_features(static, state, x) for x in (batch.obs, batch.next_obs))
    return batch._replace(obs=obs, next_obs=next_obs)


def critic_gradients(
    static: Static, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Any]]:
    """Loss terms and the critics' raw gradient; a batch of features, without axis U."""
    policy, targets = _policy(static, state), _critics(static, state.target)
    log_alpha = state.params["alpha"]["log_alpha"]
    target = critic_target(policy, targets, log_alpha, batch, noise)

    def loss(params):
        terms = critic_loss(_critics(static, params), batch, target)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["critic"])
    return terms, {"critic": grads}


def actor_gradients(
    static: Static, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Any]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    critics = _critics(static, state.params["critic"])
    log_alpha = state.params["alpha"]["log_alpha"]

    def loss(params):
        policy = partial(static.actor.apply, params["actor"])
        terms = actor_loss(policy, critics, log_alpha, batch, noise)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["actor"])
    return terms, {"actor": grads}


def alpha_gradients(
    static: Static, state: State, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, Any]]:
    """Loss terms and the raw gradient in log α; a batch of features, without axis U."""
    policy = _policy(static, state)

    def loss(params):
        terms = alpha_loss(policy, params["log_alpha"], batch, noise, static.config)
        return terms.loss, terms

    grads, terms = jax.grad(loss, has_aux=True)(state.params["alpha"])
    return terms, {"alpha": grads}


def update(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """Critics, actor, α, targets, in this order: each sees what those before have become."""
    critic, grads = critic_gradients(static, state, batch, noise)  # D7
    state, critic_norm = _apply(static, state, grads)
    actor, grads = actor_gradients(static, state, batch, noise)
    state, actor_norm = _apply(static, state, grads)
    alpha, grads = alpha_gradients(static, state, batch, noise)
    state, _ = _apply(static, state, grads)
    target = optax.incremental_update(state.params["critic"], state.target, static.config.tau)  # D9
    metrics = Metrics(*critic, *actor, *alpha, critic_norm, actor_norm)
    return state._replace(target=target), metrics


def step(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, row):
        return update(static, state, *row)

    data = prepare(static, state, batch)
    noise = Noise(*(jnp.asarray(x, static.dtype) for x in noise))
    state, metrics = ops.scan(body, state, (data, noise))
    if static.config.normalize_obs:
        rows = jnp.asarray(batch.obs, static.dtype).reshape(-1, static.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_moments(state.obs_moments, rows))  # D11
    return state, jax.tree.map(jnp.mean, metrics)


def named(static: Static, tree: dict[str, Any]) -> dict[str, Array]:
    """Trees shaped like the weights, by optimizer -> canonical names."""
    del static
    return {k: v for part in tree.values() for k, v in names_of(part).items()}


def dump(static: Static, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adams = {name: state.opt_state[name][1] for name in COUNTS}
    trees = {
        "": state.params,
        "target/": {"critic": state.target},
        "adam/mu/": {name: adam.mu for name, adam in adams.items()},
        "adam/nu/": {name: adam.nu for name, adam in adams.items()},
    }
    out = {p + k: v for p, tree in trees.items() for k, v in named(static, tree).items()}
    out.update({count: adams[name].count for name, count in COUNTS.items()})
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(static: Static, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    shapes, params, opt_state = _shapes(static), {}, {}

    def tree(name, prefix):
        return filled(shapes[name], weights, prefix, static.dtype)

    for name, count in COUNTS.items():
        params[name] = tree(name, "")
        clip, adam, schedule = static.optimizers[name].init(params[name])
        adam = adam._replace(
            count=jnp.array(weights[count], jnp.int32),
            mu=tree(name, "adam/mu/"),
            nu=tree(name, "adam/nu/"),
        )
        schedule = schedule._replace(count=jnp.array(weights[count], jnp.int32))
        opt_state[name] = clip, adam, schedule
    moments = (jnp.array(weights[f"obs_moments/{k}"], static.dtype) for k in Moments._fields)
    return State(params, tree("critic", "target/"), opt_state, Moments(*moments))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    static = make_static(spec, config, build)
    return Agent(*(partial(fn, static) for fn in (init, act, step, dump, load)))


def _features(static: Static, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, static.dtype)
    return ops.normalize(obs, state.obs_moments) if static.config.normalize_obs else obs


def _policy(static: Static, state: State) -> Callable:
    return partial(static.actor.apply, state.params["actor"]["actor"])


def _critics(static: Static, params: Mapping[str, Any]) -> tuple[Callable, ...]:
    return tuple(partial(static.critic.apply, params[name]) for name in CRITICS)


def _apply(static: Static, state: State, grads: dict[str, Any]) -> tuple[State, Array]:
    """A step of the one optimizer that `grads` is for; the norm before clipping."""
    ((name, tree),) = grads.items()
    params = state.params[name]
    changes, opt_state = static.optimizers[name].update(tree, state.opt_state[name], params)
    params = {**state.params, name: optax.apply_updates(params, changes)}
    state = state._replace(params=params, opt_state={**state.opt_state, name: opt_state})
    return state, ops.global_norm(tree)


def _shapes(static: Static) -> dict[str, Any]:
    """What a state's weights look like, by optimizer."""
    key, spec, dtype = jax.random.key(0), static.spec, static.dtype
    obs, action = (jnp.zeros((1, n), dtype) for n in (spec.observation_size, spec.action_size))
    critic = jax.eval_shape(static.critic.init, key, obs, action)
    return {
        "critic": dict.fromkeys(CRITICS, critic),
        "actor": {"actor": jax.eval_shape(static.actor.init, key, obs)},
        "alpha": {"log_alpha": jax.ShapeDtypeStruct((), dtype)},
    }
