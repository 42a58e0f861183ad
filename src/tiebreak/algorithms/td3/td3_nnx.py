"""TD3 in Flax NNX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

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
from tiebreak.frameworks.jax.nnx import Critic, DeterministicPolicy
from tiebreak.frameworks.jax.trees import name_of


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    actor_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation


class State(nnx.Module):
    """What training changes; the functions below may change it in place."""

    def __init__(self, agent: AgentDef):
        spec, config, dtype, actor_optimizer, critic_optimizer = agent
        args = (spec, config.hidden_sizes, config.activation, dtype, nnx.Rngs(0))
        self.actor = nnx.Dict(actor=DeterministicPolicy(*args))
        self.critics = nnx.Dict(critic1=Critic(*args), critic2=Critic(*args))
        self.target = nnx.Dict(
            actor=DeterministicPolicy(*args), critic1=Critic(*args), critic2=Critic(*args)
        )
        self.actor_opt = nnx.Optimizer(self.actor, actor_optimizer, wrt=nnx.Param)
        self.critic_opt = nnx.Optimizer(self.critics, critic_optimizer, wrt=nnx.Param)
        size = spec.observation_size
        self.obs_moments = Statistic(RunningStats(*(jnp.zeros(s, dtype) for s in ((), size, size))))


class Statistic(nnx.Variable):
    """Part of the state that is neither trained nor the optimizers'."""


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """The optimizers for a spec; no weights."""
    make = partial(ops.make_optimizer, eps=config.adam_eps, max_grad_norm=config.max_grad_norm)
    rates = config.actor_lr, config.critic_lr
    optimizers = (make(config.optimizer, lambda count, lr=lr: lr) for lr in rates)  # D6
    return AgentDef(spec, config, build.dtype, *optimizers)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D8


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    noise = agent.config.exploration_noise * jnp.asarray(noise, agent.dtype)
    raw = jnp.clip(state.actor.actor(obs) + noise, -1.0, 1.0)  # D1
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
    policy, smoothing = state.target.actor, jnp.asarray(noise.target, agent.dtype)
    target = td3_target(policy, _critics(state.target), batch, smoothing, agent.config)

    def loss(critics):
        terms = critic_loss(_critics(critics), batch, target)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.critics)
    return terms, grads


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, Any]:
    """LossTerms and the raw gradient in the actor; a batch of features, without axis U."""
    del noise
    critic, _ = _critics(state.critics)

    def loss(actor):
        terms = actor_loss(actor.actor, critic, batch)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.actor)
    return terms, grads


def update_critics(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[State, tuple]:
    """One gradient step of both critics; their terms and gradient norm."""
    terms, grads = critic_gradients(agent, state, batch, noise)
    state.critic_opt.update(state.critics, grads)
    return state, (*terms, ops.global_norm(nnx.as_pure(grads)))


def update_actor(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, tuple]:
    """One gradient step of the actor; all targets follow."""
    terms, grads = actor_gradients(agent, state, batch, noise)
    state.actor_opt.update(state.actor, grads)
    tau = agent.config.tau
    networks = state.actor.actor, *_critics(state.critics)
    targets = state.target.actor, *_critics(state.target)
    for network, target in zip(networks, targets, strict=True):
        new, old = (nnx.state(x, nnx.Param) for x in (network, target))
        nnx.update(target, jax.tree.map(lambda new, old: old + tau * (new - old), new, old))  # D5
    return state, (*terms, ops.global_norm(nnx.as_pure(grads)))


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
        moments = ops.merge_stats(state.obs_moments.get_value(), rows)  # D7
        state.obs_moments.set_value(moments)
    return state, jax.tree.map(jnp.mean, metrics)


def named(agent: AgentDef, tree: Any) -> dict[str, Array]:
    """A state shaped like the weights, or a part of it -> canonical names."""
    del agent
    return {name_of(path): nnx.as_pure(x) for path, x in nnx.to_flat_state(tree)}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adams = state.actor_opt.opt_state[1], state.critic_opt.opt_state[1]
    actor, critics, target = (
        nnx.state(tree, nnx.Param) for tree in (state.actor, state.critics, state.target)
    )
    out = {**named(agent, actor), **named(agent, critics)}
    trees = [("target", target)]
    trees += [(f"adam/{k}", getattr(adam, k)) for adam in adams for k in ("mu", "nu")]
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(agent, tree).items()})
    out["adam/actor_count"], out["adam/count"] = (adam.count[...] for adam in adams)
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments.get_value()._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    state = State(agent)
    for tree, prefix in ((state.actor, ""), (state.critics, ""), (state.target, "target/")):
        _put(agent, nnx.state(tree, nnx.Param), weights, prefix)
    for optimizer, name in (
        (state.actor_opt, "adam/actor_count"),
        (state.critic_opt, "adam/count"),
    ):
        _, adam, schedule = optimizer.opt_state
        _put(agent, adam.mu, weights, "adam/mu/")
        _put(agent, adam.nu, weights, "adam/nu/")
        for count in (adam.count, schedule.count):
            count[...] = jnp.array(weights[name], jnp.int32)
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


def _critics(networks: nnx.Dict) -> tuple[Critic, Critic]:
    return networks.critic1, networks.critic2


def _put(agent: AgentDef, tree: Any, weights: Mapping[str, np.ndarray], prefix: str) -> None:
    for path, variable in nnx.to_flat_state(tree):
        variable.set_value(jnp.array(weights[prefix + name_of(path)], agent.dtype))
